// Package defaults fills in the zero values of options.
package defaults

import "time"

// number fills in a default, and makes zero of a negative number.
func Number[T int | time.Duration](v *T, def T) {
	switch {
	case *v == 0:
		*v = def
	case *v < 0:
		*v = 0
	}
}
