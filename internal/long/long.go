// Package long provides a switch for the amount of work that the tests do.
//
// The environment variable REALTIME_TEST has three values. Without it the tests take about a
// minute: each guarantee is tested with a small number. With "long", for CI, they take minutes.
// With "proof" they take an hour. The tests are the same in each form.
package long

import (
	"os"
	"testing"
)

// Env is the name of the variable.
const Env = "REALTIME_TEST"

// Enabled reports whether the tests run in the long form or in the proof form.
func Enabled() bool { return Of(false, true, true) }

// Of returns the value for the current form. It panics if REALTIME_TEST has another value.
func Of[T any](short, long, proof T) T {
	switch form := os.Getenv(Env); form {
	case "":
		return short
	case "long":
		return long
	case "proof":
		return proof
	default:
		panic(Env + `="` + form + `" is none of "", "long", "proof"`)
	}
}

// Only skips the test in the short form. The reason states why the test is not part of it.
func Only(t testing.TB, reason string) {
	t.Helper()
	if !Enabled() {
		t.Skipf("%s=long runs this: %s", Env, reason)
	}
}
