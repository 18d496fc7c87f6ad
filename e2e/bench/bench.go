package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/criu"
	"github.com/migrate-hpc/migrate/e2e/oracle"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// bench is a run: two nodes, and what has been measured so far.
type bench struct {
	o            options
	migrate      string // the binary that is measured
	criu, oracle string
	self         string // this binary
	dir, memory  string // directories; the second one on a tmpfs
	a, b         *node

	noPipe  string // why the pipe cannot be run; "" if it can
	pairs   once[[]pair]
	weights once[[]weight]
	notes   []string // shown under the table
}

// newBench looks for all that is needed. An error says what cannot be run and why.
func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{o: o, pairs: once[[]pair]{}, weights: once[[]weight]{}}
	const nothing = "nothing can be measured: "
	if os.Geteuid() != 0 {
		return nil, errors.New(nothing + "agents and CRIU need root")
	}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.migrate, err = filepath.Abs(orElse(os.Getenv("MIGRATE_BIN"), "bin/migrate")); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.migrate); err != nil {
		return nil, fmt.Errorf(nothing+"%w (`make build`)", err)
	}
	if err := b.findCRIU(ctx); err != nil {
		return nil, fmt.Errorf(nothing+"%w", err)
	}
	if b.oracle, err = oracle.Build(ctx); err != nil {
		return nil, fmt.Errorf(nothing+"%w", err)
	}
	var lacking []string
	for _, tool := range []string{"bash", "tar", "zstd", "unshare", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			lacking = append(lacking, tool)
		}
	}
	if lacking != nil {
		b.noPipe = "not installed: " + strings.Join(lacking, ", ")
		b.note("The pipe cannot be run, so its column stays empty: %s.", b.noPipe)
	}
	return b, nil
}

func (b *bench) findCRIU(ctx context.Context) error {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	var err error
	if b.criu, err = criu.Find(""); err != nil {
		return err
	}
	v, err := criu.New(b.criu, "", slog.New(slog.DiscardHandler)).Version(ctx)
	if err != nil {
		return fmt.Errorf("%s does not work: %w", b.criu, err)
	}
	release := unix.ByteSliceToString(u.Release[:])
	if floor, why := criu.Floor(release); !v.AtLeast(floor) {
		return fmt.Errorf("%s is version %v, and this kernel needs %v: %s", b.criu, v, floor, why)
	}
	b.note("Linux %s, CRIU %v, load %s at the start.", release, v, load())
	return nil
}

func (b *bench) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

// load is the machine's load average over the last minute, by proc_loadavg(5).
func load() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(data), " ")
	return first
}

// tell says what is being done, where it does not mix with the table.
func tell(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// size is the job's memory in MiB, when a row wants it to be mib.
func (b *bench) size(mib int64) int64 {
	if b.o.mib > 0 {
		return b.o.mib
	}
	return mib
}

// roomFactor is how often the job must fit into free memory: the pipe holds the images on
// both sides, the job, and what is on its way.
const roomFactor = 4

// enoughRoom refuses a size that would bring the machine to its knees.
func enoughRoom(mib int64) error {
	for path, what := range map[string]string{"/proc/meminfo": "memory", "/dev/shm": "room in /dev/shm"} {
		free, err := freeBytes(path)
		if err != nil {
			return err
		}
		if free < roomFactor*mib<<20 {
			return fmt.Errorf("a job of %d MiB needs %d MiB of free %s, and there are %d", mib, roomFactor*mib, what, free>>20)
		}
	}
	return nil
}

func freeBytes(path string) (int64, error) {
	if path == "/dev/shm" {
		var st unix.Statfs_t
		err := unix.Statfs(path, &st)
		return int64(st.Bavail) * st.Bsize, err
	}
	return field(path, "MemAvailable:")
}

// setUp makes two nodes with agents that listen on the loopback.
func (b *bench) setUp(ctx context.Context) (err error) {
	pattern := fmt.Sprintf("migrate-bench-%d-*", os.Getpid())
	if b.dir, err = os.MkdirTemp("", pattern); err != nil {
		return err
	}
	if b.memory, err = os.MkdirTemp("/dev/shm", pattern); err != nil {
		return err
	}
	ca := filepath.Join(b.dir, "ca")
	const valid = 3 * time.Hour
	if err := pki.Init(ca, "migrate bench", valid+time.Hour); err != nil {
		return err
	}
	for _, n := range []struct {
		node **node
		name string
	}{{&b.a, "bench-a"}, {&b.b, "bench-b"}} {
		if *n.node, err = b.newNode(n.name); err != nil {
			return err
		}
		if err := pki.Issue(ca, n.name, valid, (*n.node).pki); err != nil {
			return err
		}
	}
	if err := errors.Join(b.a.start(ctx, b, b.b), b.b.start(ctx, b, b.a)); err != nil {
		return err
	}
	return b.warmUp(ctx)
}

// warmUp moves a small job both ways once, so that neither pays for what is only done
// the first time, and no long run begins that cannot end.
func (b *bench) warmUp(ctx context.Context) error {
	tell("trying both ways with a job of 16 MiB")
	if _, err := b.ours(ctx, 16); err != nil {
		return fmt.Errorf("move a small job: %w", err)
	}
	if b.noPipe != "" {
		return nil
	}
	if _, err := b.pipe(ctx, 16); err != nil {
		return fmt.Errorf("take a small job through the pipe: %w", err)
	}
	return nil
}

const cleanUpTime = 60 * time.Second

// close takes everything away that was made.
func (b *bench) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	var errs []error
	for _, n := range []*node{b.a, b.b} {
		if n != nil {
			errs = append(errs, n.removeJobs(ctx))
		}
	}
	for _, n := range []*node{b.a, b.b} {
		if n != nil {
			errs = append(errs, n.stop(ctx))
		}
	}
	for _, dir := range []string{b.memory, b.dir} {
		errs = append(errs, removeDir(dir))
	}
	return errors.Join(errs...)
}

// removeDir never reaches into somebody else's files by way of a mount.
func removeDir(dir string) error {
	if dir == "" {
		return nil
	}
	table, err := namespaces.MountTable(os.Getpid())
	if err != nil {
		return err
	}
	for _, m := range table {
		if strings.HasPrefix(m.Target, dir+"/") {
			return fmt.Errorf("%s is left behind, because something is mounted at %s", dir, m.Target)
		}
	}
	return os.RemoveAll(dir)
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}
