// Package peer talks to the agents of other nodes: the messages of a move, the source's client of
// its target, and the questions that agents ask each other over HTTP.
package peer
