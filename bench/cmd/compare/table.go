//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/realtime-go/realtime/bench/trial"
)

// table is what was measured.
type table struct {
	sides [2]*side
	rows  map[string]*row
	order []string // names of the rows
	notes []string
}

// row is one number, as often as it was measured, of base and head.
type row struct {
	unit   string
	values [2][]float64
}

func (t *table) add(side int, name, unit string, value float64) {
	key := name + ", " + unit
	r := t.rows[key]
	if r == nil {
		r = &row{unit: unit}
		t.rows[key] = r
		t.order = append(t.order, key)
	}
	r.values[side] = append(r.values[side], value)
}

// medians are those of base and head.
func (r *row) medians() (base, head float64) {
	of := func(i int) float64 { return trial.Median(slices.Sorted(slices.Values(r.values[i]))) }
	return of(0), of(1)
}

// ratio is the median of what the pairs say, each measured one right after the other: what the
// machine does meanwhile changes the two of a pair alike, and medians of all less alike. It is zero
// if base is.
func (r *row) ratio() float64 {
	var rs []float64
	for i := range min(len(r.values[0]), len(r.values[1])) {
		if base := r.values[0][i]; base != 0 {
			rs = append(rs, r.values[1][i]/base)
		}
	}
	slices.Sort(rs)
	return trial.Median(rs)
}

// compared reports whether both have the row.
func (r *row) compared() bool { return len(r.values[0]) > 0 && len(r.values[1]) > 0 }

// exceeds reports whether head takes more than limit times what base takes.
func (r *row) exceeds(limit float64) bool {
	base, head := r.medians()
	return limit > 0 && r.compared() && (r.ratio() > limit || base == 0 && head > 0)
}

// over returns how many rows exceed a limit.
func (t *table) over(limit float64) (n int) {
	for r := range maps.Values(t.rows) {
		if r.exceeds(limit) {
			n++
		}
	}
	return n
}

// report writes the table.
func (t *table) report(limit float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| what | %s | %s | ratio |\n|---|--:|--:|--:|\n",
		t.sides[0].name, t.sides[1].name)
	alone := [2][]string{}
	for _, key := range t.order {
		r := t.rows[key]
		if !r.compared() {
			i := 0
			if len(r.values[0]) == 0 {
				i = 1
			}
			alone[i] = append(alone[i], key)
			continue
		}
		base, head := r.medians()
		mark := ""
		if r.exceeds(limit) {
			mark = " (!)"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s%s |\n", key, trial.Number(base), trial.Number(head),
			trial.Ratio(r.ratio(), 1), mark)
	}
	for i, keys := range alone {
		if len(keys) > 0 {
			fmt.Fprintf(&b, "\nOnly %s has: %s\n", t.sides[i].name, strings.Join(keys, "; "))
		}
	}
	for _, note := range t.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	return b.String()
}
