package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// odd keeps things in a directory that are more than a name and its content, and
// looks at the beginning and at each SIGUSR1 whether they are what they were.
func odd(dir string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	o, err := openOddities(dir)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		if err := o.look(); err != nil {
			return fmt.Errorf("look %d: %w", i, err)
		}
		fmt.Println("n", i)
		<-signals
	}
}

type oddities struct {
	dir      string
	listener net.Listener
	fifo     *os.File
	nameless *os.File // unlinked
	other    *os.File // unlinked by one of two names
	locked   *os.File
	watch    int // inotify
}

func (o *oddities) in(name string) string { return filepath.Join(o.dir, name) }

func openOddities(dir string) (*oddities, error) {
	o := &oddities{dir: dir}
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	var err error
	o.listener, err = net.Listen("unix", o.in("socket"))
	note(err)
	go o.echo()
	note(syscall.Mkfifo(o.in("fifo"), 0o620))
	o.fifo, err = os.OpenFile(o.in("fifo"), os.O_RDWR, 0)
	note(err)
	o.nameless, err = os.Create(o.in("nameless"))
	note(err)
	_, err = o.nameless.WriteAt(bytes.Repeat([]byte("nobody "), 3000), 8192)
	note(errors.Join(err, os.Remove(o.in("nameless"))))
	o.other, err = os.Create(o.in("one"))
	note(errors.Join(err, os.Link(o.in("one"), o.in("two")), os.Remove(o.in("one"))))
	o.locked, err = os.Create(o.in("locked"))
	note(errors.Join(err, syscall.Flock(int(o.locked.Fd()), syscall.LOCK_EX)))
	note(os.Symlink("two", o.in("link")))
	note(os.Mkdir(o.in("dir"), 0o2750))
	note(os.WriteFile(o.in("dir/file\xff"), []byte("odd name"), 0o604))
	note(os.Link(o.in("dir/file\xff"), o.in("again")))
	sparse, err := os.Create(o.in("sparse"))
	note(err)
	_, err = sparse.WriteAt([]byte("far out"), 1<<34)
	note(errors.Join(err, sparse.Close()))
	o.watch, err = syscall.InotifyInit1(syscall.IN_NONBLOCK)
	note(err)
	_, err = syscall.InotifyAddWatch(o.watch, o.in("dir"), syscall.IN_CREATE)
	note(errors.Join(err, os.Chdir(o.in("dir"))))
	return o, errors.Join(errs...)
}

func (o *oddities) echo() {
	for {
		c, err := o.listener.Accept()
		if err != nil {
			return
		}
		_, _ = io.Copy(c, c)
		_ = c.Close()
	}
}

func (o *oddities) look() error {
	return errors.Join(o.lookAtSocket(), o.lookAtFiles(), o.lookAtLock(), o.lookAtWatch())
}

func (o *oddities) lookAtSocket() error {
	c, err := net.Dial("unix", o.in("socket"))
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("x")); err != nil {
		return err
	}
	var b [1]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return fmt.Errorf("echo: %w", err)
	}
	if _, err := o.fifo.Write([]byte("f")); err != nil {
		return err
	}
	_, err = io.ReadFull(o.fifo, b[:])
	return err
}

func (o *oddities) lookAtFiles() error {
	var errs []error
	want := append(make([]byte, 8192), bytes.Repeat([]byte("nobody "), 3000)...)
	got := make([]byte, len(want)+1)
	if n, err := o.nameless.ReadAt(got, 0); err != io.EOF || !bytes.Equal(got[:n], want) {
		errs = append(errs, fmt.Errorf("%d bytes without a name: %w", n, err))
	}
	text := fmt.Sprint("written by descriptor ", os.Getpid())
	if _, err := o.other.WriteAt([]byte(text), 0); err != nil {
		errs = append(errs, err)
	}
	for name, want := range map[string]string{"two": text, "link": text, "dir/file\xff": "odd name", "again": "odd name"} {
		if data, err := os.ReadFile(o.in(name)); err != nil || string(data) != want {
			errs = append(errs, fmt.Errorf("%q holds %q: %w", name, data, err))
		}
	}
	entries, err := os.ReadDir(o.dir)
	if err != nil || len(entries) != 8 {
		errs = append(errs, fmt.Errorf("the directory holds %v: %w", entries, err))
	}
	var sparse syscall.Stat_t
	if err := syscall.Stat(o.in("sparse"), &sparse); err != nil || sparse.Size != 1<<34+7 || sparse.Blocks > 64 {
		errs = append(errs, fmt.Errorf("sparse file of %d bytes in %d blocks: %w", sparse.Size, sparse.Blocks, err))
	}
	return errors.Join(errs...)
}

func (o *oddities) lookAtLock() error {
	f, err := os.Open(o.in("locked"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != syscall.EWOULDBLOCK {
		return fmt.Errorf("the lock is not held: %v", err)
	}
	return nil
}

// lookAtWatch makes a file where the job is, which is the directory that it watches.
func (o *oddities) lookAtWatch() error {
	if err := os.WriteFile("new", nil, 0o600); err != nil {
		return err
	}
	var event [256]byte
	if n, err := syscall.Read(o.watch, event[:]); err != nil || !bytes.Contains(event[:n], []byte("new")) {
		return fmt.Errorf("no news of the new file: %q: %w", event[:max(n, 0)], err)
	}
	return os.Remove("new")
}
