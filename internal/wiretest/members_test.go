package wiretest_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/realtime-go/realtime/internal/wiretest"
)

// Package wire is compared with Members, so Members itself has to be right.
func TestMembers(t *testing.T) {
	for text, want := range map[string]string{
		`{"a":1,"a":[2],"b":"c"}`: `{"a":[1,[2]],"b":["c"]}`,
		`{}`:                      `{}`, `[]`: `null`, `{"a":1}}`: `null`, ``: `null`, `{"a":1,}`: `null`,
		strings.Repeat("[", 65): `null`,
		`{"a":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`: `null`,
	} {
		got, err := json.Marshal(wiretest.Members([]byte(text)))
		require.NoError(t, err)
		require.Equal(t, want, string(got), text)
	}
}
