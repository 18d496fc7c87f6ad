package node

import (
	"os"
	"path/filepath"
	"slices"

	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/printable"
)

// maxLogs bounds how many of CRIU's logs are kept, and maxLogSize each, in bytes.
const (
	maxLogs    = 20
	maxLogSize = 4 << 20
)

// SaveCRIULog copies CRIU's log of a failed operation out of a directory that is about to be
// removed. It returns the path of the copy, "" if there is none.
func (n *Node) SaveCRIULog(log, name string) string {
	data, readErr := os.ReadFile(log)
	if readErr != nil {
		return ""
	}
	dir := n.Paths.criuLogs()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		n.Log.Warn("CRIU's log is lost", logkey.Err, err)
		return ""
	}
	path := filepath.Join(dir, name)
	text := printable.Text(string(data[max(0, len(data)-maxLogSize):])) // the job chose names in it
	if err := durable.WriteFile(path, []byte(text), 0o600); err != nil {
		n.Log.Warn("CRIU's log is lost", logkey.Err, err)
		return ""
	}
	pruneLogs(dir)
	return path
}

// pruneLogs removes the oldest logs beyond those to be kept.
func pruneLogs(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	age := func(e os.DirEntry) int64 {
		if info, err := e.Info(); err == nil {
			return info.ModTime().UnixNano()
		}
		return 0
	}
	slices.SortFunc(entries, func(x, y os.DirEntry) int { return int(age(y)/1e6 - age(x)/1e6) })
	for _, e := range entries[min(len(entries), maxLogs):] {
		_ = os.Remove(filepath.Join(dir, e.Name())) // tried again at the next failure
	}
}
