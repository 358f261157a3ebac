// Package recipes contains the code of docs/RECIPES.md, so that it is compiled and tested.
package recipes
