package checkpoint

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/checkpoint/scan"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/stream"
)

// Source is a running job that is about to be checkpointed.
type Source struct {
	Init   int // its PID 1, in our pid namespace
	Cgroup *cgroup.Cgroup
	CRIU   *criu.Client
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

	// frozenByOther: the tasks' own cgroup was frozen before our Freeze. Thaw leaves that.
	// frozenByUs: our Freeze has frozen them.
	frozenByOther, frozenByUs bool
	output                    map[string]outputSent // by name
	carried                   carried               // nil: not asked for yet
	baseline                  *network.Baseline
	prestarted                prestarted
	clock                     store.Clock
	memory                    *memory
	scan                      *frozenScan
	lastRound                 *lastRound
}

// Images is the directory that Dump fills.
func (s *Source) Images() string { return filepath.Join(s.Dir, "images") }

// DumpLog is where CRIU explains itself.
func (s *Source) DumpLog() string { return filepath.Join(s.Dir, "dump.log") }

// carried are the halves of the resources that CRIU does not carry.
type carried []carry.Source

// memory sends the job's memory over the lanes.
//
// The first lane carries no pages if there are others. CRIU's images, which the target waits for,
// then never queue up behind memory.
type memory struct {
	pages      *scan.Memory
	lanes      []io.Writer // of pages
	shared     bool        // with images
	streams    []*stream.Writer
	wire       int64 // written by streams that have ended
	begun      bool  // a round has been sent
	preferSize bool  // the next pass spares the wire
}

// frozenScan is a scan of the frozen memory, while CRIU dumps.
type frozenScan struct {
	cancel context.CancelCauseFunc
	done   chan struct{}
	round  scan.Round
	err    error
}

// lastRound has the carried resources send on the first lane, while CRIU dumps.
type lastRound struct {
	cancel context.CancelCauseFunc
	lane   io.Writer
	done   chan struct{}
	round  scan.Round
	err    error
}

// outputSent is what the target has of a file.
type outputSent struct {
	size  int64
	sum   xxh3.Uint128  // of the bytes: a job may cut its output and write it anew
	ctime unix.Timespec // when the file had last changed; zero if that was just before
}

// prestarted is a CRIU that was started before the freeze. It can be used if the job's network is
// still carried the same way.
type prestarted struct {
	*criu.Lazy
	network image.Network
}

// tasks lists the processes of the job.
func (s *Source) tasks() ([]scan.Task, error) {
	entries, err := pidmap.InNamespace(s.Init)
	if err != nil {
		return nil, err
	}
	if err := s.checkInit(); err != nil {
		return nil, err
	}
	var tasks []scan.Task
	for _, e := range entries {
		if !e.Zombie() {
			tasks = append(tasks, scan.Task{VPID: stream.VPID(e.Job), PID: e.Host, Began: e.Began})
		}
	}
	return tasks, nil
}

// checkInit fails if the job has ended. A process in the node's own namespaces may have the pid of
// its PID 1 then. Call checkInit after a look by that pid, and before its result is used. A
// process that has reused the pid is not in the job's cgroup.
func (s *Source) checkInit() error {
	pids, err := s.Cgroup.Pids()
	if err == nil && !slices.Contains(pids, s.Init) {
		err = fmt.Errorf("process %d, the job's first, is not in the job's cgroup: the job has ended, or was moved to another cgroup", s.Init)
	}
	return err
}
