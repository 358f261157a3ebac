// Package defaults fills in the zero values of options.
package defaults

import "time"

// Set sets a zero *v to def and a negative *v to zero, which means "without limit" or "off" from
// then on.
func Set[T int | time.Duration](v *T, def T) {
	switch {
	case *v == 0:
		*v = def
	case *v < 0:
		*v = 0
	}
}
