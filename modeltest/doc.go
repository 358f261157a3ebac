// Package modeltest compares the hub with a naive twin: with the same thing written
// so simply that it is plainly right, after the contract and not after the library.
//
// TestModel does random steps one at a time, in a bubble with a clock of its own, and
// wants every connection to get exactly the frames that the twin predicts.
// TestStorm does everything at once and checks what must hold in any order.
package modeltest
