// Package server answers users and other nodes: a route for each verb, in a file of its
// name. It finds the job that a request is about, says who may ask, bounds what callers
// may have under way, and passes on what concerns a job that has moved.
package server
