//go:build !faults

package failpoint

// Point is a moment at which a test may stop or end this process.
func Point(...string) {}

// Fail is a moment at which, besides, a test may have an operation go wrong.
func Fail(...string) error { return nil }
