// Package modeltest compares the hub with a twin: a naive implementation of the documented
// behaviour that is so simple that it is obviously correct.
//
// TestModel performs random steps one at a time, in a bubble with a fake clock, and requires that
// every connection receives exactly the frames that the twin predicts. TestStorm performs all kinds
// of steps concurrently, and checks what must be true in any order.
package modeltest
