package filelocks

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/inject"
	"github.com/migrate-hpc/migrate/linux"
)

// lock is an exclusive lock that the copy is to have, and the open file that it is on.
type lock struct {
	image.FileLock
	fd   int  // of the open file, in this process
	held bool // by the copy, or by us for a process of it
}

// take takes the lock, for a process as one of the open file, unless another one is in the way.
func (l *lock) take() error {
	if l.held {
		return nil
	}
	err := linux.Retry(func() error {
		if l.Kind == image.Flock {
			return unix.Flock(l.fd, unix.LOCK_EX|unix.LOCK_NB)
		}
		return unix.FcntlFlock(uintptr(l.fd), unix.F_OFD_SETLK, l.rangeOf(unix.F_WRLCK))
	})
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EACCES) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("take the lock: %w", err)
	}
	l.held = true
	return nil
}

// drop lets go of a lock that was taken.
func (l *lock) drop() error {
	if !l.held {
		return nil
	}
	l.held = false
	return linux.Retry(func() error {
		if l.Kind == image.Flock {
			return unix.Flock(l.fd, unix.LOCK_UN)
		}
		return unix.FcntlFlock(uintptr(l.fd), unix.F_OFD_SETLK, l.rangeOf(unix.F_UNLCK))
	})
}

func (l *lock) rangeOf(kind int16) *unix.Flock_t {
	return &unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: l.Start, Len: l.Len}
}

// bytes is the argument of F_SETLK on x86-64.
func (l *lock) bytes() []byte {
	b := make([]byte, 32)
	binary.LittleEndian.PutUint16(b, unix.F_WRLCK)
	binary.LittleEndian.PutUint16(b[2:], io.SeekStart)
	binary.LittleEndian.PutUint64(b[8:], uint64(l.Start))
	binary.LittleEndian.PutUint64(b[16:], uint64(l.Len))
	return b
}

// tries is how often a process asks for its lock: who has come in between has some seconds.
const tries = 2000

// byProcess tells whether the process itself must take the lock: it would not have one of its own, or
// not be named as the one that has it (flock in /proc/locks).
func (l *lock) byProcess() bool { return l.Kind == image.PosixLock || l.Kind == image.Flock }

// pass gives our lock to the process.
func (l *lock) pass(t *inject.Thread) error {
	if l.Kind == image.Flock {
		return l.passBy(func() error {
			_, err := t.Syscall(unix.SYS_FLOCK, uint64(l.FD), unix.LOCK_EX|unix.LOCK_NB)
			return err
		})
	}
	return l.passRange(t)
}

// passRange passes a lock whose argument is in memory of the process for that time.
func (l *lock) passRange(t *inject.Thread) (err error) {
	regs, err := t.Regs()
	if err != nil {
		return err
	}
	at, was := regs.Rsp&^15-room, make([]byte, len(l.bytes()))
	if err := access(unix.ProcessVMReadv, t.TID, at, was); err != nil {
		return err
	}
	if err := access(unix.ProcessVMWritev, t.TID, at, l.bytes()); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, access(unix.ProcessVMWritev, t.TID, at, was)) }()
	return l.passBy(func() error {
		_, err := t.Syscall(unix.SYS_FCNTL, uint64(l.FD), unix.F_SETLK, at)
		return err
	})
}

// passBy lets go of our lock and has the process ask for it.
func (l *lock) passBy(ask func() error) (err error) {
	for range tries {
		if err := l.drop(); err != nil {
			return err
		}
		err = ask()
		if !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EACCES) {
			return err
		}
		if err := l.take(); err != nil {
			return err
		}
		if !l.held {
			time.Sleep(pause)
		}
	}
	return err
}

// room is beyond what a function may use below its stack pointer, in bytes.
const room = 256

// access copies from or to the memory of a process.
func access(how func(int, []unix.Iovec, []unix.RemoteIovec, uint) (int, error), pid int, at uint64, b []byte) error {
	n, err := how(pid, []unix.Iovec{{Base: &b[0], Len: uint64(len(b))}}, []unix.RemoteIovec{{Base: uintptr(at), Len: len(b)}}, 0)
	if err == nil && n != len(b) {
		err = unix.EFAULT
	}
	if err != nil {
		return fmt.Errorf("memory of thread %d: %w", pid, err)
	}
	return nil
}

// open gets the open file from the process that has it.
func (l *lock) open(pid int) error {
	process, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(process)
	if l.fd, err = linux.RetryValue(func() (int, error) { return unix.PidfdGetfd(process, l.FD, 0) }); err != nil {
		l.fd = -1
		return fmt.Errorf("descriptor %d of process %d: %w", l.FD, pid, err)
	}
	return nil
}
