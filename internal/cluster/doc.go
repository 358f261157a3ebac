// Package cluster carries what is not kept between the nodes of a cluster: Managers in several
// processes whose broker is a broker.Bus.
//
// A [Node] is one of them. It sends an [Envelope] to the subjects of a target and receives those
// that others send to the subjects to which it listens: the rooms that have members here, the users
// that have connections here, the node itself, and all nodes. Interest in a room or a user begins
// with Enter and ends some time after Leave, so that those who come and go cost nothing.
package cluster
