// Package interop tests the plain protocol with clients of other projects.
package interop
