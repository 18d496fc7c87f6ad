//go:build !amd64

package watch

import "fmt"

// Attach begins to watch a process; on this architecture it cannot.
func Attach(pid int) (*Watch, error) {
	return nil, fmt.Errorf("%w: not on this architecture", ErrCannot)
}
