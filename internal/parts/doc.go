// Package parts shares what the nodes of a cluster show of the members of a room.
//
// Each node has a part of a room: its own members. A [Room] keeps the parts of the other nodes, and
// says what has changed in its own. A change is sent as a difference from a version to the next one,
// so a node that has missed one knows, and asks for the whole part. If nothing follows, it cannot
// know: therefore a [Clock] says again which versions are new, some seconds later.
//
// A member of another node has a key, like an own one. If several nodes have a member with the same
// key, one of them is shown: a page that reconnects to another node takes its key along, and the
// node that has lost it does not know yet.
package parts
