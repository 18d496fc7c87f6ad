package pidmap

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/procfs"
)

// Hold is a process that is held (pidfd). Its memory and files can be read by its number only,
// and that may be another process's as soon as this one was reaped. A user can arrange that,
// with a set-uid program for one. So a reader asks Alive after it has read by the number, and
// before it uses what it read.
type Hold struct{ fd int }

// Take takes hold of the process of an [Entry], and of no other that has its number.
func Take(pid int, began uint64) (*Hold, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("hold on to process %d: %w", pid, err)
	}
	h := &Hold{fd}
	now, err := Began(pid)
	if err == nil && now != began {
		err = unix.ESRCH
	}
	if err = errors.Join(err, h.Alive()); err != nil {
		h.Close()
		return nil, fmt.Errorf("hold on to process %d: %w", pid, err)
	}
	return h, nil
}

// Alive returns ESRCH if the process has ended.
func (h *Hold) Alive() error { return linux.Alive(h.fd) }

// Close lets go of the process.
func (h *Hold) Close() {
	_ = unix.Close(h.fd) // nothing is written by it
}

// Began is when the process with a number began, as in [Entry].
func Began(pid int) (uint64, error) {
	p, err := openProc(pid)
	if err != nil {
		return 0, err
	}
	defer p.close()
	return p.began()
}

// proc is a process's directory in /proc, open: it stays that of the process.
type proc struct{ fd int }

func openProc(pid int) (p proc, err error) {
	p.fd, err = unix.Open(procDir(pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	return p, err
}

func (p proc) close() { _ = unix.Close(p.fd) } // O_PATH

func (p proc) open(name string, flags int) (int, error) {
	return linux.RetryValue(func() (int, error) { return unix.Openat(p.fd, name, flags|unix.O_RDONLY|unix.O_CLOEXEC, 0) })
}

func (p proc) read(name string) ([]byte, error) {
	fd, err := p.open(name, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	text := make([]byte, 0, 4096)
	for {
		if len(text) == cap(text) {
			text = append(text, 0)[:len(text)]
		}
		n, err := linux.RetryValue(func() (int, error) { return unix.Read(fd, text[len(text):cap(text)]) })
		if err != nil || n == 0 {
			return text, err
		}
		text = text[:len(text)+n]
	}
}

func (p proc) status(name string) (status, error) {
	text, err := p.read(name)
	if err != nil {
		return status{}, err
	}
	st, err := parseStatus(string(text))
	if err != nil {
		return status{}, fmt.Errorf("%s: %w", name, err)
	}
	return st, nil
}

func (p proc) numbers(name string) ([]int, error) {
	fd, err := p.open(name, unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	return procfs.NumbersIn(os.NewFile(uintptr(fd), name))
}

func (p proc) began() (uint64, error) {
	text, err := p.read("stat")
	if err != nil {
		return 0, err
	}
	stat, err := procfs.ParseStat(string(text))
	return stat.Began, err
}
