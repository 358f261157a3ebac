package disconnect_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/disconnect"
)

// A Cause is its word in a log, whatever the handler.
func TestCauseIsText(t *testing.T) {
	var log bytes.Buffer
	why := &disconnect.CloseError{Cause: disconnect.CauseSlow, Code: disconnect.CloseSlow}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "cause", why.Cause, "why", why)
	require.Contains(t, log.String(), `"cause":"slow"`)
	require.Contains(t, log.String(), `"why":"realtime: `)
	log.Reset()
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "cause", why.Cause)
	require.Contains(t, log.String(), "cause=slow")
}
