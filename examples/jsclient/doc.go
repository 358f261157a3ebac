// Package jsclient tests the browser client in a browser and in Node, against a real server and
// over a network that fails. Its unit tests are in js/test.
package jsclient
