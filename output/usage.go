package output

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
)

// Dir is the directory of a job's output.
func Dir(store *job.Store, id job.ID) string { return filepath.Join(store.Dir(id), "io") }

// Kept is what a user's jobs keep on a node, also those that are over, until they are
// removed. Sizes are bytes.
type Kept struct {
	Jobs    int
	Alive   int // of them, with a shim
	Records int64
	Output  int64
}

// Usage tells what users keep in a store. Whose a job is and what its limit is never
// changes, so that each record is read once.
type Usage struct {
	Store *job.Store
	// Alive tells whether a job has a shim; nil: none is counted as alive.
	Alive func(job.ID) bool

	mu    sync.Mutex
	known map[job.ID]owned
}

type owned struct {
	uid   uint32
	limit int64
}

// ByUser looks at all jobs of the store. Those whose record cannot be read are left out.
func (u *Usage) ByUser() (map[uint32]Kept, error) {
	kept := map[uint32]Kept{}
	err := u.each(func(id job.ID, o owned) {
		k := kept[o.uid]
		k.Jobs++
		if u.alive(id) {
			k.Alive++
		}
		k.Records += u.Store.Size(id)
		sum, _ := sizeIn(Dir(u.Store, id)) // what can be seen
		k.Output += sum
		kept[o.uid] = k
	})
	return kept, err
}

func (u *Usage) alive(id job.ID) bool { return u.Alive != nil && u.Alive(id) }

func (u *Usage) each(look func(job.ID, owned)) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	ids, err := u.Store.IDs()
	if err != nil {
		return err
	}
	before := u.known
	u.known = make(map[job.ID]owned, len(ids))
	for _, id := range ids {
		o, ok := before[id]
		if !ok {
			rec, err := u.Store.Get(id)
			if err != nil {
				continue
			}
			o = owned{rec.Spec.UID, rec.Spec.OutputLimit}
		}
		u.known[id] = o
		look(id, o)
	}
	return nil
}

func sizeIn(dir string) (int64, error) {
	f, err := Open(dir)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	sizes, err := f.Sizes()
	return sizes[0] + sizes[1], err
}

// Biggest says whether no user keeps more output in the store than this one.
func (u *Usage) Biggest(uid uint32) (bool, error) {
	all, err := u.ByUser()
	if err != nil {
		return false, err
	}
	for _, k := range all {
		if k.Output > all[uid].Output {
			return false, nil
		}
	}
	return true, nil
}

// RoomAt is the room of the file system that holds dir.
func RoomAt(dir string) (Room, error) {
	f, err := Open(dir)
	if err != nil {
		return Room{}, err
	}
	defer f.Close()
	return f.Room()
}

// Trim cuts the output of jobs that have no shim to their limits: a process outside of a
// job may have its output open, and write on. It returns the jobs that had more.
func (u *Usage) Trim() (cut []job.ID, err error) {
	var errs []error
	err = u.each(func(id job.ID, o owned) {
		if o.limit <= 0 || u.alive(id) {
			return
		}
		switch did, err := trim(Dir(u.Store, id), o.limit); {
		case err != nil && !errors.Is(err, fs.ErrNotExist):
			errs = append(errs, fmt.Errorf("job %s: %w", id, err))
		case did:
			cut = append(cut, id)
		}
	})
	return cut, errors.Join(append(errs, err)...)
}

func trim(dir string, limit int64) (bool, error) {
	f, err := Open(dir)
	if err != nil {
		return false, err
	}
	defer f.Close()
	sizes, err := f.Sizes()
	if err != nil || sizes[0]+sizes[1] <= limit {
		return false, err
	}
	return true, f.Cut(Split(sizes, limit))
}

// ErrHeld says that a process has a job's output open for writing.
var ErrHeld = errors.New("a process outside of the job has its output open for writing")

// Seal makes sure that files which are about to lose their names take no more room. It
// takes them from the user, and fails with ErrHeld if a process can still write to them.
func Seal(dir string) error {
	f, err := Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	var errs []error
	for _, name := range Names {
		if err := f.seal(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("the job's %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (f *Files) seal(name string) error {
	fd, err := unix.Openat(f.dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Fchown(fd, 0, 0), unix.Fchmod(fd, 0o600)); err != nil {
		return err
	}
	// The kernel gives a lease for reading only while no process can write (fcntl(2), F_SETLEASE).
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
	if errors.Is(err, unix.EAGAIN) {
		return ErrHeld
	}
	return nil // or the file system has none
}
