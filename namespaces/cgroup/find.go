package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// Find finds a cgroup that New has made under this name, anywhere. It has no directories if there
// is none. Find does not look into cgroups that were delegated to users.
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

// OnlyRootWrites tells whether only root can move tasks in these cgroups and in those above. A
// user may own a cgroup, such as that of a session. A task that the user moves there leaves our
// freezer, and the kernel lets it run.
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
