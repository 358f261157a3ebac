// Package recipes holds what docs/RECIPES.md shows, so that it is compiled and tested.
package recipes
