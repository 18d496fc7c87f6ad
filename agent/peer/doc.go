// Package peer speaks with the agents of other nodes: the messages of a move, the client that
// a source has of its target, and the questions that agents ask each other over HTTP.
package peer
