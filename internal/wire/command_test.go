package wire

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// longMembers adds the strings and slices in a struct to all, by their paths.
func longMembers(
	all map[string]reflect.Value, path string, v reflect.Value,
) map[string]reflect.Value {
	for i := range v.NumField() {
		name := path + "." + v.Type().Field(i).Name
		switch member := v.Field(i); member.Kind() {
		case reflect.Struct:
			longMembers(all, name, member)
		case reflect.Pointer:
			if !member.IsNil() { // the location of a time
				longMembers(all, name, member.Elem())
			}
		case reflect.String, reflect.Slice:
			all[name] = member
		}
	}
	return all
}

// A command that waits counts with all that a client can make long, and does not change with the
// message from which it was decoded.
func TestCommandThatWaits(t *testing.T) {
	newCommand := func() (*Command, map[string]reflect.Value) {
		c := &Command{Req: &Request{}}
		return c, longMembers(map[string]reflect.Value{}, "", reflect.ValueOf(c).Elem())
	}
	_, names := newCommand()
	require.Contains(t, names, ".Req.Binary")
	require.Contains(t, names, ".Req.Since.Epoch")
	for name := range names {
		c, members := newCommand()
		long := strings.Repeat("x", 1000)
		message := []byte(long)
		if v := members[name]; v.Kind() == reflect.String {
			v.SetString(long) // decoding has copied it
		} else {
			v.SetBytes(message)
		}
		c.Keep()
		require.GreaterOrEqual(t, c.Size(), len(long), name)
		clear(message)
		if v := members[name]; v.Kind() == reflect.Slice {
			require.Equal(t, long, string(v.Bytes()), name)
		}
	}
}
