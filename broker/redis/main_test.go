package redis_test

import (
	"testing"

	"github.com/realtime-go/realtime/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }
