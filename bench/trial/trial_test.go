//go:build linux

package trial

import (
	"strings"
	"testing"
)

// A wrong name would make an empty report.
func TestCheckList(t *testing.T) {
	known := []string{"direct", "idle"}
	for _, list := range []string{"", "direct", "idle,direct"} {
		if err := CheckList(list, known); err != nil {
			t.Errorf("%q: %v", list, err)
		}
	}
	for _, list := range []string{"nosuch", "direct,nosuch", "direct, idle", ","} {
		if err := CheckList(list, known); err == nil || !strings.Contains(err.Error(), "direct, idle") {
			t.Errorf("%q: %v", list, err)
		}
	}
}
