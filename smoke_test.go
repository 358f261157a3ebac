package realtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
	"fmt"

	"github.com/realtime-go/realtime"
	"github.com/stretchr/testify/require"
)

func TestSmoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt := realtime.New(&realtime.Options{Authorize: realtime.InsecureAllowAll, Announce: 3})
		tr, cl := realtime.Pipe()
		c, err := rt.Register(t.Context(), tr, realtime.Identity{UserID: "alice"})
		require.NoError(t, err)
		ctx := context.Background()
		go func() {
			for {
				b, err := cl.Read(ctx)
				fmt.Println(string(b), err)
				if err != nil {
					return
				}
			}
		}()
		_, err = rt.Join(ctx, c.ID(), "lobby")
		require.NoError(t, err)
		cl.Write([]byte(`{"content":"hi","target":"room"}`))
		cl.Write([]byte(`ping`))
		time.Sleep(100 * time.Second)
		fmt.Println(c.Info())
		fmt.Printf("%+v\n", rt.Stats())
		require.NoError(t, rt.Shutdown(ctx))
		fmt.Printf("%+v\n", rt.Stats())
	})
}
