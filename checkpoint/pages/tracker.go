package pages

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// tracker tells which pages need no look, because the kernel has kept track of what was
// written. It only ever saves work: what it says is believed of pages alone that a pass
// has read since it began to follow their process.
type tracker interface {
	name() string
	// begin is called before a pass over running processes, with all of them. It returns
	// the processes that it follows from now on, so nothing read earlier counts.
	begin(tasks []Task) (news []image.VPID)
	// changed lists, in order, where a mapping may have changed since the last call, or
	// since begin. known is false if that could be anywhere.
	changed(t Task, m addrRange) (where []addrRange, known bool)
	// stays returns a check, to be made before and after pages of the chunk at addr, in
	// mapping m, are read: if it fails, what was read is not what changed is about. It
	// may be nil, and is called by other goroutines until the pass ends.
	stays(t Task, m addrRange, addr uint64) func() bool
	// missed says that a pass could not look at the process, whatever changed has said.
	missed(t Task)
	// settle is called when the processes stand still, and before anybody else works on
	// them. What changed says from then on is final.
	settle(tasks []Task) error
	close() error
}

// newTracker picks what this kernel has. Watching is left out: with it one move in five,
// of a job that had just arrived, was found by verifying to lack a page's last version.
func newTracker() tracker {
	if softDirtyWorks() == nil {
		return &softDirty{}
	}
	return hashing{}
}

// hashing looks at every page. It needs nothing of the kernel.
type hashing struct{}

func (hashing) name() string                                { return "hash" }
func (hashing) begin([]Task) []image.VPID                   { return nil }
func (hashing) changed(Task, addrRange) ([]addrRange, bool) { return nil, false }
func (hashing) stays(Task, addrRange, uint64) func() bool   { return nil }
func (hashing) missed(Task)                                 {}
func (hashing) settle([]Task) error                         { return nil }
func (hashing) close() error                                { return nil }

// identity tells a program that runs in a process from the one before and the one
// after: another process with the same pid, or another program since an exec. It says
// so too often rather than too seldom.
func identity(pid int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), " ")
	f := strings.Fields(rest) // from field 3, the state, on: see proc(5)
	if len(f) < 49 {
		return "", fmt.Errorf("%d fields in the stat of process %d", len(f), pid)
	}
	start, code, data := f[22-3], f[26-3:29-3], f[45-3:52-3]
	return start + " " + strings.Join(code, " ") + " " + strings.Join(data, " "), nil
}

// directIO says that a process has a file open which devices read into its memory. They
// do so past its page tables, at some time after the kernel has noted a write.
func directIO(pid int) bool {
	dir := fmt.Sprintf("/proc/%d/fdinfo", pid)
	files, err := os.ReadDir(dir)
	if err != nil {
		return false // it is ending
	}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(text), "flags:")
		var flags int64
		if _, err := fmt.Sscanf(rest, "%o", &flags); err == nil && flags&unix.O_DIRECT != 0 {
			return true
		}
	}
	return false
}
