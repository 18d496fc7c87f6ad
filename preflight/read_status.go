package preflight

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// statusOf reads a status file of /proc into its fields.
func statusOf(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	fields := map[string]string{}
	for line := range strings.Lines(string(data)) {
		if key, value, ok := strings.Cut(line, ":"); ok {
			fields[key] = strings.TrimSpace(value)
		}
	}
	return fields, nil
}

// fourIDs reads the real, effective, saved and file system id.
func fourIDs(field string) (ids [4]uint32) {
	for i, f := range strings.Fields(field) {
		if n, err := strconv.ParseUint(f, 10, 32); err == nil && i < len(ids) {
			ids[i] = uint32(n)
		}
	}
	return ids
}

// kilobytes reads a size as status gives it, in bytes.
func kilobytes(field string) int64 {
	n, err := strconv.ParseInt(strings.TrimSuffix(field, " kB"), 10, 64)
	if err != nil {
		return 0 // kernel threads and zombies have none
	}
	return n << 10
}

// gone recognises what ended or was closed while it was looked at.
func gone(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH)
}

// describeProcess describes a process that does not seem to be in the job. One that has
// ended meanwhile is none.
func describeProcess(pid int) (process, bool) {
	status, err := statusOf(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return process{}, false
	}
	p := process{Pid: pid, Comm: status["Name"]}
	p.PPid, _ = strconv.Atoi(status["PPid"])
	if nested := strings.Fields(status["NSpid"]); len(nested) > 0 {
		p.Job, _ = strconv.Atoi(nested[len(nested)-1])
	}
	if strings.HasPrefix(status["State"], "Z") {
		p.Headless = status["Threads"] != "1"
		return p, p.Headless
	}
	return p, true
}

func itoa(n int) string { return strconv.Itoa(n) }
