//go:build linux

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	tab := &table{
		sides: [2]*side{{name: "old"}, {name: "new"}}, rows: map[string]*row{},
		notes: []string{"A note."},
	}
	for i, values := range [][]float64{{10, 20, 30}, {11, 21, 33}} {
		for _, v := range values {
			tab.add(i, "push", "µs", v)
		}
	}
	tab.add(0, "none", "allocations", 0)
	tab.add(1, "none", "allocations", 1)
	tab.add(0, "gone", "µs", 1)
	tab.add(1, "born", "µs", 1)
	const want = `| measure | old | new | ratio |
|---|--:|--:|--:|
| push, µs | 20.0 | 21.0 | 1.10 (!) |
| none, allocations | – | 1.00 | – (!) |

Only in old: gone, µs

Only in new: born, µs

A note.
`
	if got := tab.report(1.05); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	for limit, want := range map[float64]int{0: 0, 1.05: 2, 1.11: 1} {
		if got := tab.over(limit); got != want {
			t.Errorf("above %g: %d, want %d", limit, got, want)
		}
	}
}

func TestAllocatedLines(t *testing.T) {
	const out = "BenchmarkPush/16-2 \t 1000\t 769.9 ns/op\t 48.12 ns/frame\t 8 B/op\t 3 allocs/op\n" +
		"BenchmarkX 	 1 	 2 ns/op\nBenchmarkOne         	    1000	 26189 ns/op	 0 B/op	 12 allocs/op\nPASS"
	found := allocated.FindAllStringSubmatch(out, -1)
	if len(found) != 2 || found[0][1] != "BenchmarkPush/16" || found[0][2] != "3" ||
		found[1][1] != "BenchmarkOne" || found[1][2] != "12" {
		t.Errorf("%q", found)
	}
}

// The benchmarks that are compared by default exist.
func TestDefaultsExist(t *testing.T) {
	found := map[string]bool{}
	err := filepath.WalkDir("../../..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Name() == "node_modules" {
			return fs.SkipDir
		}
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range benchmark.FindAllSubmatch(text, -1) {
			found[string(m[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := strings.CutPrefix(allocationRows, "^Benchmark(")
	names := strings.Split(strings.TrimSuffix(rows, ")$"), "|")
	for one := range strings.SplitSeq(instructionRows, ",") {
		top, _, _ := strings.Cut(one, "/")
		names = append(names, top)
	}
	for _, name := range names {
		if !found["Benchmark"+name] {
			t.Errorf("no benchmark %s", name)
		}
	}
	o := options{counted: instructionRows}
	if !counted(o, "BenchmarkPush") || counted(o, "BenchmarkPus") {
		t.Error("instructions of Push")
	}
}
