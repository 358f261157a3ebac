//go:build linux

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/realtime-go/realtime/bench/trial"
)

// table holds the measurements.
type table struct {
	sides [2]*side
	rows  map[string]*row
	order []string // keys of the rows
	notes []string
}

// row holds the values of one number, for base and head.
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

// medians returns the medians of base and head.
func (r *row) medians() (base, head float64) {
	of := func(i int) float64 { return trial.Median(slices.Sorted(slices.Values(r.values[i]))) }
	return of(0), of(1)
}

// ratio returns the median of the ratios of the pairs. The two of a pair are measured directly
// after each other, so that other load on the machine affects both alike. It is zero if base is
// zero.
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

// compared reports whether both sides have the row.
func (r *row) compared() bool { return len(r.values[0]) > 0 && len(r.values[1]) > 0 }

// exceeds reports whether head takes more than limit times as much as base.
func (r *row) exceeds(limit float64) bool {
	base, head := r.medians()
	return limit > 0 && r.compared() && (r.ratio() > limit || base == 0 && head > 0)
}

// over returns how many rows exceed the limit.
func (t *table) over(limit float64) (n int) {
	for r := range maps.Values(t.rows) {
		if r.exceeds(limit) {
			n++
		}
	}
	return n
}

// report formats the table.
func (t *table) report(limit float64) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| measure | %s | %s | ratio |\n|---|--:|--:|--:|\n",
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
			fmt.Fprintf(&b, "\nOnly in %s: %s\n", t.sides[i].name, strings.Join(keys, "; "))
		}
	}
	for _, note := range t.notes {
		fmt.Fprintf(&b, "\n%s\n", note)
	}
	return b.String()
}
