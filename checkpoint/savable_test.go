package checkpoint

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
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
		if stack != want.stack || forkCalls[call] != want.forks {
			t.Errorf("%q: call %q, stack %#x", text, call, stack)
		}
	}
}

func TestMemoryThatTheNodeHasNoRoomForIsNotWrittenDown(t *testing.T) {
	const gib = 1 << 30
	if err := checkFree([]int{7}, 2*gib, 4*gib); err != nil {
		t.Error(err)
	}
	err := checkFree([]int{7, 9}, 3*gib, 4*gib)
	if !errors.Is(err, ErrStack) || !strings.Contains(err.Error(), "[7 9]") || !strings.Contains(err.Error(), "3072 MiB") {
		t.Error(err)
	}
	huge := make([]byte, 32<<20)
	for i := range huge {
		huge[i] = 1
	}
	if n := anonymousMemory(os.Getpid()); n < int64(len(huge)) {
		t.Errorf("this process has %d bytes of its own", n)
	}
	runtime.KeepAlive(huge)
	if n := anonymousMemory(1 << 30); n != 0 {
		t.Errorf("nobody has %d bytes", n)
	}
}
