// Package integration tests a whole Manager: its features together, over sockets and in memory.
package integration
