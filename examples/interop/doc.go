// Package interop has clients that others wrote speak the plain protocol.
package interop
