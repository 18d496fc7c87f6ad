// Package launch starts jobs. It fills in what a request leaves open, sees to it that the
// caller may have what it asks for, and finds room, ids and addresses for jobs that start
// here or come here.
package launch
