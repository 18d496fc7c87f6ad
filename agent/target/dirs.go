package target

import (
	"path/filepath"

	"github.com/migrate-hpc/migrate/agent/node"
)

// dirs are the directories of a move on its target.
type dirs struct {
	paths node.Paths
	move  string
}

// Dir, IODir and RecordPath are durable: Dir becomes the job's directory.
func (d dirs) Dir() string        { return d.paths.Incoming(d.move) }
func (d dirs) IODir() string      { return filepath.Join(d.Dir(), "io") }
func (d dirs) RecordPath() string { return d.paths.IncomingRecord(d.move) }

// Memory and Images, and those below, are volatile: images and pages.
func (d dirs) Memory() string { return d.paths.Move(d.move) }
func (d dirs) Images() string { return filepath.Join(d.Memory(), "images") }
func (d dirs) pages() string  { return filepath.Join(d.Memory(), "pages") }
func (d dirs) work() string   { return filepath.Join(d.Memory(), "work") }
