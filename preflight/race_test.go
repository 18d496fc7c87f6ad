//go:build race

package preflight

// shadow is what the race detector keeps of memory that a test program writes, in bytes at most.
const shadow = 32 << 20
