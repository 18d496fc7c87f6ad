package fileaccess

import (
	"path"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/procfs"
)

// given is where every job gets file systems and files of its own, or from root.
var given = append([]string{"/proc", "/sys", "/dev", "/dev/pts", "/dev/shm", "/tmp", namespaces.IOMount},
	slices.Concat(table.Carried.Mounts(), namespaces.Devices())...)

// place is what a mount means for a file on it.
type place int

const (
	nowhere place = iota // no mount of the job's
	ofNode
	own
)

// placesOf sorts the job's mounts, by their numbers. A mount on top of one that was given
// makes both the node's: a user may have had a hand in it.
func placesOf(table []procfs.MountPoint, binds []string) map[uint64]place {
	at := map[string]int{}
	for _, m := range table {
		at[m.Target]++
	}
	for _, b := range binds {
		at[path.Clean(b)]++ // it may be what is mounted where something should have been given
	}
	places := map[uint64]place{}
	for _, m := range table {
		id, err := strconv.ParseUint(m.ID, 10, 64)
		if err != nil {
			continue // such a file is on no mount, for all that is known
		}
		places[id] = ofNode
		if at[m.Target] == 1 && slices.Contains(given, m.Target) {
			places[id] = own
		}
	}
	return places
}

// aioMagic is of the rings of io_setup(2), AIO_RING_MAGIC in fs/aio.c.
const aioMagic = 0xa10a10a1

// internal tells what lies on mounts of the kernel's: memory that looks like a file,
// carried resources, and the /proc that CRIU works with until the job runs.
func internal(at string, st *unix.Statx_t) (bool, error) {
	if st.Nlink == 0 {
		return true, nil
	}
	var fs unix.Statfs_t
	if err := linux.Retry(func() error { return unix.Statfs(at, &fs) }); err != nil {
		return false, err
	}
	return fs.Type == aioMagic || table.Carried.Carries(fs.Type) || fs.Type == unix.PROC_SUPER_MAGIC, nil
}
