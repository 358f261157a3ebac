//go:build linux

package main

import (
	"maps"
	"os"
	"path/filepath"
	"testing"
)

// A tree from before the server realtime-app gets all servers. Another tree keeps its own.
func TestLendServers(t *testing.T) {
	root := writeTree(t, map[string]string{
		"bench/serve/serve.go":             "new",
		"bench/peers/realtime/main.go":     "new",
		"bench/peers/realtime-app/main.go": "new",
	})
	for _, test := range []struct{ before, after map[string]string }{{
		before: map[string]string{
			"bench/serve/serve.go":         "old",
			"bench/serve/old.go":           "old",
			"bench/peers/realtime/main.go": "old",
		},
		after: map[string]string{
			"bench/serve/serve.go":             "new",
			"bench/serve/old.go":               "",
			"bench/peers/realtime/main.go":     "new",
			"bench/peers/realtime-app/main.go": "new",
		},
	}, {
		before: map[string]string{
			"bench/peers/realtime/main.go":     "own",
			"bench/peers/realtime-app/main.go": "own",
		},
		after: map[string]string{
			"bench/peers/realtime/main.go":     "own",
			"bench/peers/realtime-app/main.go": "own",
		},
	}} {
		tree := writeTree(t, test.before)
		lent, err := lendServers(root, tree)
		if err != nil {
			t.Fatal(err)
		}
		if _, own := test.before["bench/peers/realtime-app/main.go"]; lent == own {
			t.Errorf("lent %v", lent)
		}
		got := map[string]string{}
		for path := range test.after {
			text, _ := os.ReadFile(filepath.Join(tree, path))
			got[path] = string(text)
		}
		if !maps.Equal(got, test.after) {
			t.Errorf("got %v, want %v", got, test.after)
		}
	}
}

func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	tree := t.TempDir()
	for path, text := range files {
		path = filepath.Join(tree, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return tree
}
