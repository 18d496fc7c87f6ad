package checkpoint

import (
	"errors"
	"os"
	"runtime"
	"strings"
	"testing"
)

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
