package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// Find finds what New has made somewhere under this name. It has no directories if
// there is none. Cgroups that were delegated to users are not looked into.
func Find(name string) (*Cgroup, error) {
	table, err := procfs.MountTable(os.Getpid())
	if err != nil {
		return nil, err
	}
	c := &Cgroup{Dirs: map[string]string{}}
	mounts := cgroupMounts(table)
	for h, m := range mounts {
		if h != Unified && !slices.Contains(controllers, h) || h == Unified && mounts["freezer"].dir != "" {
			continue
		}
		err := filepath.WalkDir(m.dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case errors.Is(err, fs.ErrNotExist) && path != m.dir: // cgroups come and go
				return nil
			case err != nil:
				return err
			case !d.IsDir():
				return nil
			case !ownedByRoot(d): // what bears the name in there is its owner's
				return fs.SkipDir
			case d.Name() == name:
				c.Dirs[h] = path
				return fs.SkipAll
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		if at := filepath.Join(c.Dirs[h], tasksDir); c.Dirs[h] != "" && (h == Unified || h == "freezer") {
			if _, err := os.Stat(at); err == nil {
				c.Dirs[h] = at
			}
		}
	}
	return c, nil
}

func ownedByRoot(d fs.DirEntry) bool {
	info, err := d.Info()
	if err != nil {
		return false // it has just gone
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Uid == 0
}

// Of returns the directory of pid's cgroup in each mounted hierarchy.
func Of(pid int) (map[string]string, error) {
	table, err := procfs.MountTable(os.Getpid())
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil {
		return nil, fmt.Errorf("cgroup of process %d: %w", pid, err)
	}
	return resolvePaths(cgroupMounts(table), string(data)), nil
}

// OnlyRootWrites tells whether nobody but root can move tasks in any of these cgroups and those above.
// Who can, by a cgroup that was delegated to them (a user's session has one), takes tasks out of a
// freezer: the kernel then lets them run.
func OnlyRootWrites(dirs map[string]string) (bool, error) {
	for _, dir := range dirs {
		for ; isCgroup(dir); dir = filepath.Dir(dir) {
			for _, path := range []string{dir, filepath.Join(dir, "cgroup.procs")} {
				var st unix.Stat_t
				if err := unix.Stat(path, &st); err != nil {
					return false, &os.PathError{Op: "stat", Path: path, Err: err}
				}
				if st.Uid != 0 || st.Mode&(unix.S_IWGRP|unix.S_IWOTH) != 0 {
					return false, nil
				}
			}
		}
	}
	return true, nil
}

func isCgroup(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "cgroup.procs"))
	return err == nil
}

// resolvePaths translates the lines of /proc/PID/cgroup to directories. Cgroups that
// lie outside of what is mounted here have none.
func resolvePaths(mounts map[string]cgroupMount, lines string) map[string]string {
	dirs := map[string]string{}
	for line := range strings.Lines(lines) {
		f := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(f) != 3 {
			continue
		}
		names := strings.Split(f[1], ",")
		if f[1] == "" {
			names = []string{Unified}
		}
		for _, h := range names {
			m, ok := mounts[h]
			rest, within := strings.CutPrefix(strings.TrimSuffix(f[2], "/")+"/", m.root+"/")
			if ok && within && !strings.HasPrefix(rest, "../") {
				dirs[h] = filepath.Join(m.dir, rest)
			}
		}
	}
	return dirs
}

type cgroupMount struct{ dir, root string }

// cgroupMounts finds where each hierarchy is mounted.
func cgroupMounts(table []procfs.MountPoint) map[string]cgroupMount {
	found := map[string]cgroupMount{}
	for _, m := range table {
		at := cgroupMount{dir: m.Target, root: strings.TrimSuffix(m.Root, "/")}
		switch m.Type {
		case "cgroup2":
			found[Unified] = at
		case "cgroup":
			for _, o := range strings.Split(m.SuperOptions, ",") {
				found[o] = at
			}
		}
	}
	return found
}
