package procfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Fields are the lines "key: value" of a file such as status, fdinfo/FD or smaps_rollup. Of a key
// that stands several times the last value counts.
type Fields map[string]string

// ReadFields reads a file of /proc.
func ReadFields(path string) (Fields, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return ParseFields(string(text)), nil
}

// ReadStatus reads /proc/PID/status.
func ReadStatus(pid int) (Fields, error) { return ReadFields(fmt.Sprintf("/proc/%d/status", pid)) }

// ParseFields parses the text of such a file. A task's name cannot forge a line: the kernel escapes
// its line ends.
func ParseFields(text string) Fields {
	f := Fields{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":"); ok {
			f[key] = strings.TrimPrefix(value, "\t")
		}
	}
	return f
}

// unescape undoes what the kernel does to a task's name (proc_task_name).
var unescape = strings.NewReplacer(`\\`, `\`, `\n`, "\n")

// Name is the task's name, in which any byte may stand.
func (f Fields) Name() string { return unescape.Replace(f["Name"]) }

// ErrNoField says that the kernel does not tell a value.
var ErrNoField = errors.New("the kernel does not tell it")

// Uint is one number.
func (f Fields) Uint(key string, base int) (uint64, error) {
	text, ok := f[key]
	if !ok {
		return 0, fmt.Errorf("%s: %w", key, ErrNoField)
	}
	n, err := strconv.ParseUint(strings.TrimSpace(text), base, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", key, err)
	}
	return n, nil
}

// Numbers are the decimal numbers of a value: ids of users and groups, pids.
func (f Fields) Numbers(key string) ([]uint32, error) {
	text, ok := f[key]
	if !ok {
		return nil, fmt.Errorf("%s: %w", key, ErrNoField)
	}
	var list []uint32
	for _, word := range strings.Fields(text) {
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		list = append(list, uint32(n))
	}
	return list, nil
}

// Size is a size in bytes. It is 0 where the kernel tells none, as of kernel threads and of tasks
// that have ended.
func (f Fields) Size(key string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(f[key]), " kB"), 10, 64)
	if err != nil || n < 0 || n > 1<<52 {
		return 0
	}
	return n << 10
}

// Handled is the mask of the signals that a process handles or blocks (status): bit 0 is signal 1.
func (f Fields) Handled() (uint64, error) {
	caught, err := f.Uint("SigCgt", 16)
	if err != nil {
		return 0, err
	}
	blocked, err := f.Uint("SigBlk", 16)
	return caught | blocked, err
}

// IsGone recognises what reading /proc returns for a task that has ended meanwhile, or for what it
// held open.
func IsGone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}
