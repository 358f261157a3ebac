// Package jsclient tests the browser client in a browser and in Node, with a real server and a
// network that fails. The unit tests of the client are in js/test.
package jsclient
