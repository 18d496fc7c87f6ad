// Package launch starts jobs. It fills in what a request leaves open, checks that the caller may
// have what it asks for, and reserves quota, ids and addresses for jobs that start here or come
// here.
package launch
