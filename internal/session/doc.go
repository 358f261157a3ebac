// Package session keeps one connection going from its first message to its end.
//
// A [Session] reads messages and runs the commands in them one at a time, through a [Handler]. The
// right to read belongs to at most one goroutine, and at most one goroutine runs commands:
//
//	        input                     command                  handler takes long, or waits for
//	parked -------> reading ----------------------> running ---------- the client: handOver ----+
//	  ^              |  ^                              |                                        |
//	  |  no input    |  |  no command waits            |                                        v
//	  +--------------+  +------------------------------+           running, and another goroutine
//	                    ^                                          reads into the backlog
//	                    |   backlog is empty: the runner ends, the other one keeps reading      |
//	                    +-----------------------------------------------------------------------+
//
// So a handler that waits for its own client does not wait for ever: pings are answered and the end
// is seen. While a connection is parked, no goroutine belongs to it; the transport wakes it.
package session
