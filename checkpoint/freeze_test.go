package checkpoint

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWhereAThreadIsIsReadAsTheKernelWritesIt(t *testing.T) {
	for text, want := range map[string]struct {
		stack uint64
		forks bool
	}{
		"running\n":                    {0, false},
		"-1 0x7ffd0f7a2000 0x45f3c1\n": {0x7ffd0f7a2000, false},
		"230 0x0 0x0 0x7f 0x0 0x0 0x0 0x7ffd0f7a1e10 0x45f3c1\n":                            {0x7ffd0f7a1e10, false},
		fmt.Sprintf("%d 0x0 0x0 0x0 0x0 0x0 0x0 0x7ffd0f7a1e18 0x45f3c1\n", unix.SYS_VFORK): {0x7ffd0f7a1e18, true},
		"": {0, false},
	} {
		call, stack := parseSyscall(text)
		if stack != want.stack || forks[call] != want.forks {
			t.Errorf("%q: call %q, stack %#x", text, call, stack)
		}
	}
}
