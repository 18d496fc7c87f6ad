package agent

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/checkpoint/image"
	"github.com/migrate-hpc/migrate/job/durable"
	"github.com/migrate-hpc/migrate/thread"
)

// directory is a checkpoint that is being written: a temporary sibling of the
// directory that it becomes when it is whole and on the disk.
//
// Its paths are the user's, who may change what they lead to at any time. So
// everything that names them is done with the user's own rights, and what root
// writes goes through a descriptor of the directory that was made.
type directory struct {
	path, temp string
	owner      caller
	move       string
	at         *os.File // the directory itself; nil in recovery
	files      []*os.File
	buffers    []*bufio.Writer
	count      atomic.Int64
}

const lanePrefix = "lane-"

// newDirectory begins a directory, with the caller's own right to make one.
func newDirectory(path, move string, c caller) (*directory, error) {
	d := &directory{path: path, temp: path + ".partial-" + move, owner: c, move: move}
	err := asCaller(c, func() error {
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			return errors.Join(fmt.Errorf("%s exists already", path), err)
		}
		return os.Mkdir(d.temp, 0o700)
	})
	if err != nil {
		return nil, err
	}
	if err := d.open(); err != nil {
		return nil, errors.Join(err, d.remove())
	}
	return d, nil
}

// open takes hold of the directory and makes the lanes in it.
func (d *directory) open() error {
	fd, err := unix.Open(d.temp, unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	d.at = os.NewFile(uintptr(fd), d.temp)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Uid != d.owner.uid {
		return fmt.Errorf("%s is not the directory that was made", d.temp)
	}
	for i := range min(runtime.NumCPU(), 4) {
		name := fmt.Sprintf("%s%d", lanePrefix, i)
		fd, err := unix.Openat(fd, name, unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_WRONLY|unix.O_CLOEXEC, 0o600)
		if err != nil {
			return &os.PathError{Op: "create", Path: name, Err: err}
		}
		f := os.NewFile(uintptr(fd), name)
		d.files = append(d.files, f)
		d.buffers = append(d.buffers, bufio.NewWriterSize(&countedWriter{f, &d.count}, 1<<20))
	}
	return nil
}

type countedWriter struct {
	w io.Writer
	n *atomic.Int64
}

func (c *countedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n.Add(int64(n))
	return n, err
}

func (d *directory) written() int64 { return d.count.Load() }

func (d *directory) lanes() []io.Writer {
	var w []io.Writer
	for _, b := range d.buffers {
		w = append(w, b)
	}
	return w
}

// seal brings everything to the disk, signs it and gives it its name.
func (d *directory) seal(m image.Manifest, sign image.Signer) error {
	for i, b := range d.buffers {
		if err := errors.Join(b.Flush(), d.files[i].Close()); err != nil {
			return fmt.Errorf("write the checkpoint: %w", err)
		}
	}
	d.files = nil
	var err error
	if m.Extra, err = json.Marshal(sealedBy{d.move}); err != nil {
		return err
	}
	if err := image.Seal(fmt.Sprintf("/proc/self/fd/%d", d.at.Fd()), m, sign); err != nil {
		return err
	}
	return asCaller(d.owner, func() error {
		if err := os.Rename(d.temp, d.path); err != nil {
			return err
		}
		return errors.Join(d.isAt(d.path), durable.SyncDir(filepath.Dir(d.path)))
	})
}

// sealedBy is what a manifest says beyond the job: which attempt it is from.
type sealedBy struct {
	Move string `json:"move"`
}

// isAt checks that a path leads to the directory that was written.
func (d *directory) isAt(path string) error {
	mine, err := d.at.Stat()
	if err != nil {
		return err
	}
	there, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, there) {
		return fmt.Errorf("%s was exchanged for something else", path)
	}
	return nil
}

// remove takes the directory back, whether it has its name yet or not. What has
// the name and is of another attempt stays.
func (d *directory) remove() error {
	d.close()
	ours := d.isOurs() // root's to ask: the manifest is closed to others
	return asCaller(d.owner, func() error {
		err := os.RemoveAll(d.temp)
		if ours {
			err = errors.Join(err, os.RemoveAll(d.path))
		}
		return err
	})
}

// isOurs tells whether what lies under the final name was sealed by this attempt.
func (d *directory) isOurs() bool {
	f, _, err := checkpoint.OpenOutput(d.path, "manifest.json")
	if err != nil {
		return false
	}
	defer f.Close()
	var m struct {
		Extra sealedBy `json:"extra"`
	}
	return json.NewDecoder(io.LimitReader(f, maxAnswer)).Decode(&m) == nil && m.Extra.Move == d.move
}

// discard removes what never got its name.
func (d *directory) discard() {
	d.close()
	_ = asCaller(d.owner, func() error { return os.RemoveAll(d.temp) }) // nothing is lost by it
}

func (d *directory) close() {
	for _, f := range d.files {
		_ = f.Close() // it goes anyway
	}
	d.files = nil
	if d.at != nil {
		_ = d.at.Close()
		d.at = nil
	}
}

// openLanes opens the lanes that a manifest lists.
func openLanes(dir string, m image.Manifest) (*savedLanes, error) {
	var files []*os.File
	var sums []hash.Hash
	var want []image.File
	l := &savedLanes{}
	l.close = func() error {
		var errs []error
		for _, f := range files {
			errs = append(errs, f.Close())
		}
		return errors.Join(errs...)
	}
	for _, e := range m.Files {
		if !strings.HasPrefix(e.Name, lanePrefix) {
			return nil, errors.Join(fmt.Errorf("the checkpoint holds %s, which is no lane", e.Name), l.close())
		}
		f, err := os.Open(filepath.Join(dir, e.Name))
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		sum := sha256.New()
		files, sums, want = append(files, f), append(sums, sum), append(want, e)
		l.readers = append(l.readers, io.TeeReader(bufio.NewReaderSize(f, 1<<20), sum))
	}
	l.check = func() error {
		for i, sum := range sums {
			if got := hex.EncodeToString(sum.Sum(nil)); got != want[i].SHA256 {
				return fmt.Errorf("%s changed while it was read", want[i].Name)
			}
		}
		return nil
	}
	return l, nil
}

// asCaller does something with the caller's own rights to files.
func asCaller(c caller, do func() error) error { return thread.As(c.user(), do) }
