//go:build !race

package integration_test

// raceDetector says that everything takes ten times as long.
const raceDetector = false
