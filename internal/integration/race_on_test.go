//go:build race

package integration_test

// raceDetector reports whether the race detector is on. It makes everything about ten times slower.
const raceDetector = true
