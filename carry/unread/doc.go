// Package unread finds what has arrived at the job's sockets, is nowhere else, and no checkpoint can
// carry: connections that no program has accepted and datagrams that none has read. A job that runs
// takes them in sooner or later, mostly within a millisecond.
package unread
