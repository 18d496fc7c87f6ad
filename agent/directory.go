package agent

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
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

	"github.com/migrate-hpc/migrate/checkpoint/image"
	"github.com/migrate-hpc/migrate/job/durable"
)

// directory is a checkpoint that is being written: a temporary sibling of the
// directory that it becomes when it is whole and on the disk.
type directory struct {
	path, temp string
	files      []*os.File
	buffers    []*bufio.Writer
	count      atomic.Int64
}

const lanePrefix = "lane-"

// newDirectory begins a directory, with the caller's own right to make one.
func newDirectory(path string, c caller) (*directory, error) {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("%s exists already", path), err)
	}
	d := &directory{path: path, temp: fmt.Sprintf("%s.partial-%d", path, os.Getpid())}
	if err := asCaller(c, func() error { return os.Mkdir(d.temp, 0o700) }); err != nil {
		return nil, err
	}
	for i := range min(runtime.NumCPU(), 4) {
		f, err := os.OpenFile(filepath.Join(d.temp, fmt.Sprintf("%s%d", lanePrefix, i)), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, errors.Join(err, d.remove())
		}
		d.files = append(d.files, f)
		d.buffers = append(d.buffers, bufio.NewWriterSize(&countedWriter{f, &d.count}, 1<<20))
	}
	return d, nil
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
	if err := image.Seal(d.temp, m, sign); err != nil {
		return err
	}
	if err := os.Rename(d.temp, d.path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(d.path))
}

// remove takes the directory back, whether it has its name yet or not.
func (d *directory) remove() error {
	for _, f := range d.files {
		_ = f.Close() // it goes anyway
	}
	d.files = nil
	return errors.Join(os.RemoveAll(d.temp), os.RemoveAll(d.path))
}

// discard removes what never got its name.
func (d *directory) discard() {
	for _, f := range d.files {
		_ = f.Close()
	}
	_ = os.RemoveAll(d.temp)
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
func asCaller(c caller, do func() error) error {
	if c.root() {
		return do()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // its identity is changed for good, so it dies with the goroutine
		if unix.Gettid() == os.Getpid() {
			defer runtime.UnlockOSThread() // the first thread does not die: another does it
			done <- asCaller(c, do)
			return
		}
		err := assume(c)
		if err == nil {
			err = do()
		}
		done <- err
	}()
	return <-done
}
