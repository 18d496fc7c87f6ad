package namespaces

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// openStdio opens the three standard descriptors inside the job, as its user. Output appends, so
// that a restored job continues at the end of the file.
func openStdio(cfg Config) error {
	for fd, f := range []struct {
		path  string
		flags int
	}{
		{cfg.Stdin, unix.O_RDONLY},
		{cfg.Stdout, unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT},
		{cfg.Stderr, unix.O_WRONLY | unix.O_APPEND | unix.O_CREAT},
	} {
		if fd == 2 && cfg.Stderr == cfg.Stdout {
			if err := unix.Dup3(1, 2, 0); err != nil {
				return fmt.Errorf("join stderr to stdout: %w", err)
			}
			continue
		}
		n, err := openNonblocking(f.path, f.flags)
		if err != nil {
			return fmt.Errorf("open %s: %w", f.path, err)
		}
		if err := moveFD(n, fd); err != nil {
			return err
		}
	}
	return nil
}

var errFIFO = errors.New("a FIFO cannot be a job's input or output, because its other end is outside of the job; use a file, or let the command make and open a FIFO in the job's own /tmp")

// openNonblocking opens a file without waiting for the other end of a FIFO, and takes no terminal.
func openNonblocking(path string, flags int) (int, error) {
	n, err := unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0o644)
	for err == unix.EINTR || err == unix.EAGAIN { // the kernel has asked the holder of a lease to give it up
		time.Sleep(leasePause)
		n, err = unix.Open(path, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0o644)
	}
	var st unix.Stat_t
	if err == unix.ENXIO && unix.Stat(path, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFIFO {
		return -1, errFIFO // without a reader
	}
	if err != nil {
		return -1, err
	}
	if err := clearNonblock(n); err != nil {
		return -1, errors.Join(err, unix.Close(n))
	}
	return n, nil
}

const leasePause = 20 * time.Millisecond

// clearNonblock makes reads and writes of an open file wait.
func clearNonblock(fd int) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if st.Mode&unix.S_IFMT == unix.S_IFIFO {
		return errFIFO
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return err
	}
	_, err = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags&^unix.O_NONBLOCK)
	return err
}

func moveFD(from, to int) error {
	if from == to {
		return nil
	}
	if err := unix.Dup3(from, to, 0); err != nil {
		return fmt.Errorf("set up descriptor %d: %w", to, err)
	}
	return unix.Close(from)
}
