// Package procfs reads what the kernel tells of a process in /proc.
package procfs
