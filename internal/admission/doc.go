// Package admission decides which requests and connections a server lets in.
package admission
