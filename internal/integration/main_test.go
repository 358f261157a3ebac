package integration_test

import (
	"encoding/json"
	"log"
	"os"
	"testing"

	"github.com/realtime-go/realtime/internal/leaktest"
	"github.com/realtime-go/realtime/internal/long"
)

// schedules is the number of random orders of events in each test with random schedules.
func schedules() uint64 { return long.Of[uint64](100, 300, 10_000) }

// TestMain fails if the tests leave a goroutine or a descriptor behind. In the process that
// TestManySilentConnections starts, it connects the clients and runs no test.
func TestMain(m *testing.M) {
	if plan := os.Getenv(clientProcessEnv); plan != "" {
		var c clientProcess
		err := json.Unmarshal([]byte(plan), &c)
		if err == nil {
			err = c.run()
		}
		if err != nil {
			log.Fatal(err)
		}
		return
	}
	leaktest.Main(m)
}
