// Package tickets keeps what may be taken once, by a name that cannot be guessed.
package tickets
