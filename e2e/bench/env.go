package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

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

// logf prints progress to stderr, apart from the table.
func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

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

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

// removeDir does not delete files of other trees through a mount.
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
