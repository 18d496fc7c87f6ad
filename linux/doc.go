// Package linux holds the system calls that several packages make in the same way: each is made
// again when a signal interrupts it (EINTR), which Go's runtime sends to its own threads at any time.
package linux
