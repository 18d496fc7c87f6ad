package osthread

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// Usage is how long a thread, or several, have run, and have waited for a processor.
type Usage struct{ Ran, Waited time.Duration }

// parseUsage reads proc_pid_schedstat: nanoseconds on a processor and on a run queue.
func parseUsage(text []byte) (u Usage, ok bool) {
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return u, false
	}
	ran, err1 := strconv.ParseInt(string(fields[0]), 10, 64)
	waited, err2 := strconv.ParseInt(string(fields[1]), 10, 64)
	return Usage{time.Duration(ran), time.Duration(waited)}, err1 == nil && err2 == nil
}

// Process adds up what the threads of this process use. The zero value is ready.
type Process struct{ before map[string]Usage }

// Since is what its threads have used since the last call. A thread that has ended
// meanwhile is left out.
func (p *Process) Since() (sum Usage) {
	const dir = "/proc/self/task"
	threads, err := fs.ReadDir(os.DirFS(dir), ".")
	if err != nil {
		return sum
	}
	now := make(map[string]Usage, len(threads))
	for _, t := range threads {
		text, err := os.ReadFile(filepath.Join(dir, t.Name(), "schedstat"))
		u, ok := parseUsage(text)
		if err != nil || !ok {
			continue
		}
		now[t.Name()] = u
		if was, known := p.before[t.Name()]; known {
			sum.Ran += u.Ran - was.Ran
			sum.Waited += u.Waited - was.Waited
		}
	}
	p.before = now
	return sum
}
