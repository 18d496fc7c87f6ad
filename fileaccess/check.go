package fileaccess

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/procfs"
)

// Job is a job as the kernel shows it.
type Job struct {
	Init int           // its PID 1
	Pids []int         // its tasks; one that has ended is passed over
	User osthread.User // on the node
	// Binds are where it has directories and files of the node bound, beside the root.
	Binds []string
	// Mine tells of a file on no mount of the job's that whoever restores it has it open
	// for himself. It may be nil.
	Mine func(device, inode uint64) bool
}

// Denied is something that a task holds and its user could not open.
type Denied struct {
	Path string // as the job sees it
	Held string // "descriptor 3 of process 17 (cat)"
	Err  error
}

func (d Denied) Error() string { return fmt.Sprintf("%s (%s): %v", d.Path, d.Held, d.Err) }
func (d Denied) Unwrap() error { return d.Err }

// ErrOther says that a name leads to another file than the one that is held.
var ErrOther = errors.New("under this name the job's user finds another file")

// Check lists what is denied. An error means that it could not be found out.
func Check(j Job) ([]Denied, error) {
	if j.User.UID == 0 {
		return nil, nil
	}
	root, err := rootOf(j.Init)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	table, err := procfs.MountTable(j.Init)
	if err != nil {
		return nil, err
	}
	c := collector{job: j, mounts: placesOf(table, j.Binds), mapped: map[mapping]bool{}, seen: map[file]bool{}}
	defer c.close()
	for _, pid := range j.Pids {
		if err := c.task(pid); err != nil && !procfs.IsGone(err) {
			return nil, fmt.Errorf("what process %d holds: %w", pid, err)
		}
	}
	var denied []Denied
	err = osthread.As(j.User, func() error {
		for _, f := range c.files {
			if err := f.judge(int(root.Fd()), j.User.UID); err != nil {
				denied = append(denied, Denied{f.path, f.by, err})
			}
		}
		return nil
	})
	return denied, err
}

// rootOf opens the root of the job's mounts, which all names that the kernel tells of its
// files begin at. A root of another kind could be beyond a directory that is closed.
func rootOf(init int) (*os.File, error) {
	at := fmt.Sprintf("/proc/%d/root", init)
	link, err := os.Readlink(at)
	if err != nil {
		return nil, err
	}
	if link != "/" {
		return nil, fmt.Errorf("PID 1 of the job has changed its root to %s", link)
	}
	return os.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY, 0)
}
