package socketnames

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/osthread"
)

type restorer struct {
	carry.NoRestorer
	env   carry.Env
	names socketNames // until it is known who runs
}

// NewRestorer is the half of the job's shim.
func NewRestorer(e carry.Env) carry.Restorer { return &restorer{env: e} }

// Prepare puts the sockets aside whose names CRIU will take.
func (r *restorer) Prepare() error {
	paths, err := image.SocketNames(r.env.Images)
	if err != nil {
		return err
	}
	r.names, err = r.save(paths)
	return err
}

// Parked has them back: CRIU has made the others.
func (r *restorer) Parked() error { return r.names.showOriginals() }

// Commit gives the names to the job's own.
func (r *restorer) Commit() error {
	err := r.names.install()
	r.names = nil
	if err != nil {
		return fmt.Errorf("not all Unix sockets have their names: %w", err)
	}
	return nil
}

// Undo leaves nothing of a job that will not run here.
func (r *restorer) Undo() error {
	err := r.names.undo()
	r.names = nil
	return err
}

// socketNames are the names of the job's Unix sockets. All is done by renaming. A socket whose
// first link is gone counts as deleted in the next move, whatever other links it has.
type socketNames []*socketName

type socketName struct {
	user     osthread.User // the job's user, who made the name: no other names are renamed
	dir      *os.File
	base     string
	created  bool // CRIU has made a socket, which has newName
	returned bool // the original socket has its name back
}

func (n *socketName) savedName() string { return "." + n.base + ".migrate-was" }
func (n *socketName) newName() string   { return "." + n.base + ".migrate-own" }

// save puts the sockets that are there at paths in the job aside. It comes before
// CRIU.
func (r *restorer) save(paths []string) (kept socketNames, err error) {
	slices.Sort(paths)
	paths = slices.Compact(paths)
	if err := r.note(paths); err != nil {
		return nil, err
	}
	for _, path := range paths {
		n, err := r.saveName(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("keep the socket %s: %w", path, err), kept.undo())
		}
		kept = append(kept, n)
	}
	return kept, nil
}

// saveName says os.ErrNotExist also of what is no socket: CRIU lets that be.
func (r *restorer) saveName(path string) (*socketName, error) {
	n, err := r.openDir(path)
	if err != nil {
		return nil, err
	}
	if err = n.isSocket(n.base); errors.Is(err, os.ErrNotExist) && n.isSocket(n.savedName()) == nil {
		err = n.rename(n.savedName(), n.base) // a node that went down has left it there
	}
	if err == nil { // another socket has the name since
		err = errors.Join(n.remove(n.savedName()), n.remove(n.newName()))
	}
	if err == nil {
		err = n.rename(n.base, n.savedName())
	}
	if err != nil {
		return nil, errors.Join(err, n.dir.Close())
	}
	return n, nil
}

// openDir finds the directory that the name is in.
func (r *restorer) openDir(path string) (*socketName, error) {
	at, err := r.resolveDir(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	n := &socketName{user: r.env.User, base: filepath.Base(path)}
	err = osthread.As(n.user, func() error {
		n.dir, err = os.OpenFile(at, unix.O_PATH|unix.O_DIRECTORY, 0)
		return err
	})
	return n, err
}

// isSocket returns os.ErrNotExist for a missing file, or one that is no socket.
func (n *socketName) isSocket(base string) error {
	var st unix.Stat_t
	err := unix.Fstatat(int(n.dir.Fd()), base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFSOCK {
		err = os.ErrNotExist
	}
	return err
}

func (r *restorer) notesFile() string { return filepath.Join(r.env.Work, "names.json") }

// note leaves a trace of the names that are about to be touched, for Recover.
func (r *restorer) note(paths []string) error {
	data, err := exactjson.Marshal(paths)
	if err != nil {
		return err
	}
	//house:allow os.WriteFile: a note for this boot, in a tmpfs
	return os.WriteFile(r.notesFile(), data, 0o600)
}

// Recover gives names back that a shim which was killed has put aside.
func (r *restorer) Recover() error {
	data, err := os.ReadFile(r.notesFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	var paths []string
	if err != nil || exactjson.Unmarshal(data, &paths) != nil { // cut short: nothing was touched
		return err
	}
	for _, path := range paths {
		n, err := r.openDir(path)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err == nil {
			n.returned = n.isSocket(n.savedName()) != nil
			err = socketNames{n}.undo()
		}
		if err != nil {
			return fmt.Errorf("give the socket %s back: %w", path, err)
		}
	}
	return nil
}

// resolveDir says where a directory of the job lies on the node, and os.ErrNotExist if it is
// in a file system of the job's own.
func (r *restorer) resolveDir(dir string) (string, error) {
	const mostLinks = 40 // as in the kernel
	at, links := "/", 0
	for parts := strings.Split(dir, "/"); len(parts) > 0; {
		next := filepath.Join(at, parts[0])
		parts = parts[1:]
		node := r.nodePath(next)
		if node == "" {
			return "", os.ErrNotExist
		}
		target, err := os.Readlink(node)
		if err != nil { // no link
			at = next
			continue
		}
		if links++; links > mostLinks {
			return "", &os.PathError{Op: "follow", Path: dir, Err: unix.ELOOP}
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		parts = append(strings.Split(target, "/"), parts...)
	}
	return r.nodePath(at), nil
}

// nodePath is where a path without links lies on the node, "" if it does not.
func (r *restorer) nodePath(path string) string {
	for at := path; ; at = filepath.Dir(at) {
		if slices.Contains(jobOwnDirs, at) {
			return ""
		}
		if node, ok := r.env.Mounts[at]; ok {
			return filepath.Join(node, strings.TrimPrefix(path, at))
		}
		if at == "/" {
			return filepath.Join("/", r.env.Root, path)
		}
	}
}

// jobOwnDirs are mounted anew for every job.
var jobOwnDirs = []string{"/proc", "/sys", "/dev", "/tmp"}

// showOriginals gives the original sockets their names back. CRIU's sockets wait under other
// names.
func (kept socketNames) showOriginals() error {
	for _, n := range kept {
		err := n.rename(n.base, n.newName())
		if n.created = err == nil; err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
		if err := n.rename(n.savedName(), n.base); err != nil {
			return err
		}
		n.returned = true
	}
	return nil
}

// install gives the names to the sockets of the job that is about to run.
func (kept socketNames) install() (err error) {
	for _, n := range kept {
		if n.created {
			err = errors.Join(err, n.rename(n.newName(), n.base))
		}
	}
	return errors.Join(err, kept.close())
}

// undo removes the sockets of a job that will not run here, and gives the names back.
func (kept socketNames) undo() (err error) {
	for _, n := range kept {
		if !n.returned {
			err = errors.Join(err, n.rename(n.savedName(), n.base))
		}
		err = errors.Join(err, n.remove(n.newName()))
	}
	return errors.Join(err, kept.close())
}

func (kept socketNames) close() (err error) {
	for _, n := range kept {
		err = errors.Join(err, n.dir.Close())
	}
	return err
}

func (n *socketName) rename(from, to string) error {
	err := osthread.As(n.user, func() error {
		return unix.Renameat(int(n.dir.Fd()), from, int(n.dir.Fd()), to)
	})
	if err != nil {
		return &os.LinkError{Op: "rename", Old: filepath.Join(n.dir.Name(), from), New: to, Err: err}
	}
	return nil
}

func (n *socketName) remove(base string) error {
	err := osthread.As(n.user, func() error { return unix.Unlinkat(int(n.dir.Fd()), base, 0) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return &os.PathError{Op: "remove", Path: filepath.Join(n.dir.Name(), base), Err: err}
	}
	return nil
}
