// Package migrate contains the code of docs/MIGRATION.md, so that it is compiled and tested.
package migrate
