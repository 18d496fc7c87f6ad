package checkpoint

import (
	"log/slog"
	"path/filepath"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/store"
)

// Source is a running job that is about to be checkpointed.
type Source struct {
	Processes
	CRIU *criu.Client
	// External names the job's external mounts: path in the job → key.
	External map[string]string
	Dir      string // on a tmpfs; holds CRIU's images and log while they are needed
	IODir    string // the job's output files
	// Interface is the job's network interface, nil for none.
	Interface *network.Interface
	UserNS    bool // it was given a user namespace of its own
	TCP       bool // save established connections
	Log       *slog.Logger
	// Count is told of memory as it is looked at, in bytes. May be nil.
	Count func(read int64)
	// OnImagesSent is called when everything but memory has been sent. The target can then restore the
	// job while its memory still comes. May be nil.
	OnImagesSent func()
	// PostCopy has Dump and Send tell the target to forget pages that have changed since the warm-up.
	// The target pulls them later.
	PostCopy bool
	// FullSpeed has PreCopy compete with jobs for the processors. Without it, PreCopy gives way.
	FullSpeed bool
	// Eager has CRIU save all memory, for a restore that keeps copy-on-write memory shared. Pages that
	// the target has are not sent again.
	Eager bool
	// Verify has Send read every lazy page once more and send its digest. The target compares.
	Verify bool
	// Affinity says what is to become of threads that are bound to processors.
	Affinity affinity.Mode

	output     output
	carried    *carried // nil: not asked for yet
	network    networkLook
	prestarted prestarted
	clock      store.Clock
	memory     *memory // nil: nothing was sent yet
}

// Images is the directory that Dump fills.
func (s *Source) Images() string { return filepath.Join(s.Dir, "images") }

// DumpLog is where CRIU explains itself.
func (s *Source) DumpLog() string { return filepath.Join(s.Dir, "dump.log") }
