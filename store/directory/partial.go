package directory

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/store"
)

// partial is a checkpoint that is being written: a temporary sibling of the
// directory that it becomes when it is whole and on the disk.
//
// Its paths are the user's, who may change what they lead to at any time. So the
// directory that it is made in is opened once, with the user's rights; it and its files
// are made with them, too, and known by their descriptors from then on. While it is
// written it is root's and closed to everybody, where the file system lets root do that.
// That keeps accidents off; nothing that the signature says rests on it.
type partial struct {
	name   string // as its user gave it
	path   string
	owner  osthread.User
	move   string
	id     inode    // zero: not made
	parent *os.File // nil in recovery
	at     *os.File // the directory itself; nil in recovery
	files  *Files
	lanes  []*store.LaneWriter
	stop   func() // gives the lanes up
	closed bool   // to its user: it is root's
	whole  bool   // it is sealed, has its name and is its user's
	count  atomic.Int64
}

// madeNames are all files that a directory may have been given.
func madeNames() []string { return append(store.AllLaneNames(), store.SealNames()...) }

// newPartial begins a directory, with the user's own right to make one.
func newPartial(name, move string, u osthread.User) (*partial, error) {
	stop := make(chan struct{})
	d := &partial{name: name, path: filepath.Clean(name), owner: u, move: move, stop: sync.OnceFunc(func() { close(stop) })}
	if err := osthread.As(u, d.make); err != nil {
		return nil, errors.Join(fmt.Errorf("make %s: %w", name, err), d.Remove())
	}
	for _, f := range d.files.All() {
		d.lanes = append(d.lanes, store.NewLaneWriter(u, f, &d.count, stop))
	}
	return d, nil
}

func (d *partial) base() string { return filepath.Base(d.path) }
func (d *partial) temp() string { return d.base() + ".partial-" + d.move }

// make makes the directory and the files in it.
func (d *partial) make() (err error) {
	if d.parent, err = openDirectory(filepath.Dir(d.path)); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := statAt(d.parent, d.base(), &st); !errors.Is(err, os.ErrNotExist) {
		return errors.Join(fmt.Errorf("%s exists already", d.path), err)
	}
	if err := unix.Mkdirat(int(d.parent.Fd()), d.temp(), 0o700); err != nil {
		return &os.PathError{Op: "mkdir", Path: d.path + ".partial-" + d.move, Err: err}
	}
	if d.at, err = openDirectoryAt(d.parent, d.temp(), unix.O_NOFOLLOW); err != nil {
		return err
	}
	if err := unix.Fstat(int(d.at.Fd()), &st); err != nil {
		return err
	}
	if _, err := d.at.Readdirnames(1); err != io.EOF || st.Uid != d.owner.UID { // it must be empty
		return fmt.Errorf("%s is not the directory that was made", d.at.Name())
	}
	d.id = inodeOf(st)
	d.files, err = NewFiles(d.at, store.LaneNames())
	return err
}

// Ref names the directory: by its inode it is told from any other of the name.
func (d *partial) Ref() (store.Ref, error) {
	own, err := exactjson.Marshal(d.id)
	return store.Ref{Name: d.name, Form: own}, err
}

func (d *partial) Lanes() (all []io.Writer) {
	for _, l := range d.lanes {
		all = append(all, l)
	}
	return all
}

// Shut closes the directory to its user. It comes after the record that tells an agent
// to come to open it again. A file system that takes root for nobody refuses, and others
// know no owners.
func (d *partial) Shut() {
	if d.owner.UID != 0 {
		d.closed = d.at.Chown(0, 0) == nil
	}
}

// reopen gives the directory to its user.
func (d *partial) reopen() error {
	if !d.closed {
		return nil
	}
	// That works for one that is open as a path only, too.
	err := unix.Fchownat(int(d.at.Fd()), "", int(d.owner.UID), int(d.owner.GID), unix.AT_EMPTY_PATH)
	if err != nil {
		return fmt.Errorf("give %s to its user: %w", d.at.Name(), err)
	}
	d.closed = false
	return nil
}

func (d *partial) Written() int64 { return d.count.Load() }

// Seal brings everything to the disk, signs it and gives it to its user and its name.
func (d *partial) Seal(m store.Manifest, sign store.Signer) error {
	for _, l := range d.lanes {
		if err := l.Finish(); err != nil {
			return fmt.Errorf("write the checkpoint: %w", err)
		}
	}
	var err error
	if m.Extra, err = exactjson.Marshal(sealedBy{d.move}); err != nil {
		return err
	}
	as := d.owner
	if d.closed { // its user does not get in
		as = osthread.User{}
	}
	if err := osthread.As(as, func() error { return d.files.Seal(m, sign) }); err != nil {
		return err
	}
	if err := d.giveName(); err != nil {
		return err
	}
	d.whole = true
	return nil
}

// sealedBy is what a manifest says beyond the job: which attempt it is from.
type sealedBy struct {
	Move string `json:"move"`
}

// giveName gives the directory its name and then to its user, so that nobody comes in
// between. It renames within the parent what cannot be anybody else's: nobody but root
// moves what is root's out of a directory that others share.
func (d *partial) giveName() error {
	err := error(unix.EINVAL)
	if d.closed {
		err = d.rename(unix.RENAME_NOREPLACE)
	}
	if errors.Is(err, unix.EINVAL) { // not closed, or a file system that cannot
		if err = d.reopen(); err == nil {
			err = osthread.As(d.owner, func() error { return d.rename(0) })
		}
	}
	if err == nil {
		err = d.reopen()
	}
	if err == nil {
		err = d.at.Sync() // it must not be root's again after a power cut
	}
	if err != nil {
		return err
	}
	return osthread.As(d.owner, func() error {
		var st unix.Stat_t
		if err := unix.Lstat(d.path, &st); err != nil || inodeOf(st) != d.id { // its user could not find it
			return errors.Join(fmt.Errorf("%s was exchanged for something else", d.path), err)
		}
		return d.parent.Sync()
	})
}

func (d *partial) rename(flags uint) error {
	p := int(d.parent.Fd())
	if err := unix.Renameat2(p, d.temp(), p, d.base(), flags); err != nil {
		return &os.LinkError{Op: "rename", Old: d.temp(), New: d.path, Err: err}
	}
	return nil
}

// has tells whether a name in the parent is the directory's.
func (d *partial) has(name string) bool {
	var st unix.Stat_t
	return statAt(d.parent, name, &st) == nil && inodeOf(st) == d.id
}

// Remove takes the directory back, whether it has its name yet or not: the files that
// were made, and itself, if nothing else is in it. What has the name and is something
// else stays.
func (d *partial) Remove() error {
	defer d.close()
	if d.id == (inode{}) {
		return nil
	}
	names := []string{d.temp(), d.base()}
	if d.at == nil {
		if err := osthread.As(d.owner, func() error { return d.find(names) }); err != nil || d.at == nil {
			return err
		}
		if err := d.onlyOurs(); err != nil {
			return err
		}
	}
	if err := d.reopen(); err != nil {
		return err
	}
	return osthread.As(d.owner, func() error { return d.erase(names) })
}

// Discard removes what never became whole.
func (d *partial) Discard() {
	if !d.whole {
		_ = d.Remove() // nothing is lost by it
	}
	d.close()
}

// find finds the directory again that an earlier agent has made. It may be root's still.
func (d *partial) find(names []string) error {
	var err error
	if d.parent == nil {
		if d.parent, err = openDirectory(filepath.Dir(d.path)); err != nil {
			return err
		}
	}
	for _, name := range names {
		if !d.has(name) {
			continue
		}
		if d.at, err = openDirectoryAt(d.parent, name, unix.O_NOFOLLOW|unix.O_PATH); err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Fstat(int(d.at.Fd()), &st); err != nil {
			return err
		}
		if inodeOf(st) != d.id { // exchanged since
			return fmt.Errorf("%s was exchanged for something else", d.at.Name())
		}
		d.closed = st.Uid == 0 && d.owner.UID != 0
		return nil
	}
	return nil
}

// onlyOurs makes sure before root gives a directory away which an earlier agent has made:
// the number of an inode may be another's by now.
func (d *partial) onlyOurs() error {
	if !d.closed {
		return nil
	}
	dir, err := openDirectoryAt(d.at, ".", 0)
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if other := slices.IndexFunc(names, func(n string) bool { return !slices.Contains(madeNames(), n) }); err == nil && other >= 0 {
		err = fmt.Errorf("%s holds %s, which no checkpoint does: it stays as it is", d.path, names[other])
	}
	return err
}

func (d *partial) erase(names []string) error {
	for _, name := range madeNames() {
		if err := unix.Unlinkat(int(d.at.Fd()), name, 0); err != nil && !errors.Is(err, os.ErrNotExist) {
			return &os.PathError{Op: "remove", Path: name, Err: err}
		}
	}
	for _, name := range names {
		if !d.has(name) {
			continue
		}
		if err := unix.Unlinkat(int(d.parent.Fd()), name, unix.AT_REMOVEDIR); err != nil {
			return &os.PathError{Op: "remove", Path: filepath.Join(filepath.Dir(d.path), name), Err: err}
		}
	}
	return nil
}

// GiveUp has nobody wait for the directory's file system any more but those who write to
// it, and takes nothing more to write.
func (d *partial) GiveUp() {
	if d.stop != nil {
		d.stop()
	}
}

// close returns when nobody writes any more, which may take long.
func (d *partial) close() {
	d.GiveUp()
	for _, l := range d.lanes {
		l.Wait()
	}
	d.lanes = nil
	if d.files != nil {
		_ = d.files.Close() // what matters was synced
		d.files = nil
	}
	for _, f := range []**os.File{&d.at, &d.parent} {
		if *f != nil {
			_ = (*f).Close() // only names were looked up in it
			*f = nil
		}
	}
}
