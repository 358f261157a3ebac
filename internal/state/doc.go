// Package state keeps what is current in a room, and gives it to readers as fast as they take it.
package state
