// Package server answers users and other nodes: a route for each verb, in a file of its name. It
// finds the job of a request, checks the caller, bounds what callers have under way, and forwards
// requests about a job that has moved.
package server
