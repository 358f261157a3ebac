// Package migrate holds what docs/MIGRATION.md shows, so that it is compiled and tested.
package migrate
