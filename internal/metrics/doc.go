// Package metrics counts what happens in a server.
package metrics
