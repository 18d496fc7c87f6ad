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

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/e2e/oracle"
	"github.com/migrate-hpc/migrate/procfs"
	"github.com/migrate-hpc/migrate/transport/pki"
)

// bench is a run: two nodes, and what has been measured so far.
type bench struct {
	o            options
	binary       string // the program that is measured
	criu, oracle string
	self         string // this binary
	dir, memory  string // directories on a disk and on a tmpfs
	a, b         *node

	tried map[way]error     // a small job on each way
	done  map[run][]outcome // one per round
	order []run             // in which they were first done
	notes []string          // shown under the table
}

// newBench looks for all that is needed. An error says what cannot be run and why.
func newBench(ctx context.Context, o options) (*bench, error) {
	b := &bench{o: o, tried: map[way]error{}, done: map[run][]outcome{}}
	const nothing = "nothing can be measured: "
	if os.Geteuid() != 0 {
		return nil, errors.New(nothing + "agents and CRIU need root")
	}
	var err error
	if b.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if b.binary, err = filepath.Abs(orElse(os.Getenv("MIGRATE_BIN"), "bin/migrate")); err != nil {
		return nil, err
	}
	if _, err := os.Stat(b.binary); err != nil {
		return nil, fmt.Errorf(nothing+"%w (`make build`)", err)
	}
	if err := b.findCRIU(ctx); err != nil {
		return nil, fmt.Errorf(nothing+"%w", err)
	}
	if b.oracle, err = oracle.Build(ctx); err != nil {
		return nil, fmt.Errorf(nothing+"%w", err)
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
	b.note("Linux %s, CRIU %v, load %s at the start.", release, v, loadAverage())
	return nil
}

func (b *bench) note(format string, args ...any) {
	b.notes = append(b.notes, fmt.Sprintf(format, args...))
}

// loadAverage is the machine's over the last minute, by proc_loadavg(5).
func loadAverage() string {
	data, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(data), " ")
	return first
}

// tell says what is being done, where it does not mix with the table.
func tell(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// installed says which of the programs are missing.
func installed(programs ...string) error {
	var lacking []string
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacking = append(lacking, p)
		}
	}
	if lacking == nil {
		return nil
	}
	return cannot("not installed: " + strings.Join(lacking, ", ") + " (scripts/setup --bench)")
}

// enoughRoom refuses a job that would bring the machine to its knees: it must fit so many
// times into free memory, and so many times into the directory's file system.
func enoughRoom(job load, inMemory, inDir float64, dir string) error {
	memory, err := field("/proc/meminfo", "MemAvailable:")
	if err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return err
	}
	size := float64(job.mib << 20)
	for _, r := range []struct {
		what        string
		need, there float64
	}{{"memory", inMemory * size, float64(memory)}, {"room in " + filepath.Dir(dir), inDir * size, float64(st.Bavail) * float64(st.Bsize)}} {
		if r.there < r.need {
			return cannot(fmt.Sprintf("a job of %d MiB needs %.0f MiB of free %s, and there are %.0f", job.mib, r.need/(1<<20), r.what, r.there/(1<<20)))
		}
	}
	return nil
}

// setUp makes two nodes with agents that listen on the loopback.
func (b *bench) setUp(ctx context.Context) (err error) {
	pattern := fmt.Sprintf("migrate-bench-%d-*", os.Getpid())
	// /tmp may be a tmpfs, which has no room that memory has not.
	if b.dir, err = os.MkdirTemp(orElse(os.Getenv("TMPDIR"), "/var/tmp"), pattern); err != nil {
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
	return errors.Join(b.a.start(ctx, b, b.b), b.b.start(ctx, b, b.a))
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
	table, err := procfs.MountTable(os.Getpid())
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
