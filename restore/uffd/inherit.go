package uffd

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/restore/pageset"
)

// notInherited returns the mappings of a process whose pages a forked child
// does not have: wiped (MADV_WIPEONFORK) or left out (MADV_DONTFORK). The kernel
// gives the child's userfaultfd the former nevertheless. pid 0, or a process
// that has ended while its memory lives on, has none.
func notInherited(pid int) (out []pageset.Range, err error) {
	if pid == 0 {
		return nil, nil
	}
	f, err := os.Open(fmt.Sprintf("/proc/%d/smaps", pid))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var at pageset.Range
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		line := lines.Text()
		if flags, ok := strings.CutPrefix(line, "VmFlags:"); ok {
			if words := strings.Fields(flags); slices.Contains(words, "wf") || slices.Contains(words, "dc") {
				out = append(out, at)
			}
			continue
		}
		var r pageset.Range
		if n, _ := fmt.Sscanf(line, "%x-%x ", &r.Start, &r.End); n == 2 {
			at = r
		}
	}
	if err := lines.Err(); err != nil && !errors.Is(err, unix.ESRCH) {
		return nil, err
	}
	return out, nil
}
