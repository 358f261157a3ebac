// Package long says how much the tests do.
//
// The environment variable REALTIME_TEST chooses. Without it the tests take about a minute: each
// promise is tested with a small number. "long" is for CI and takes minutes. "proof" takes an
// hour. The tests are the same in each form.
package long

import (
	"os"
	"testing"
)

// Env is the name of the variable.
const Env = "REALTIME_TEST"

// Enabled reports whether the tests run in the long form, or in that of the proof.
func Enabled() bool { return Of(false, true, true) }

// Of returns the value for the form in which the tests run. It panics if there is no such form.
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

// Only skips the test in the short form. The reason says what it needs or takes.
func Only(t testing.TB, reason string) {
	t.Helper()
	if !Enabled() {
		t.Skipf("%s=long runs this: %s", Env, reason)
	}
}
