//go:build race

package realtime_test

// raceDetector says that everything takes ten times as long.
const raceDetector = true
