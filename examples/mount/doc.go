// Package mount shows, as tests, where a Manager can be mounted: on net/http, chi, gin
// and echo, under prefixes, inside their middleware and over TLS.
//
// mountings_test.go has the code for each of them. The package itself has no code.
package mount
