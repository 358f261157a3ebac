// Package mount shows in its tests how to mount a Manager on net/http, chi, gin and echo: under a
// prefix, inside their middleware and over TLS. See mountings_test.go. The package itself has no
// code.
package mount
