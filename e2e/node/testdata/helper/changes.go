package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// What a move changes. Each is set by the first thread, and what get does at its first call, before
// the move, changes nothing.
func init() {
	attrs["semundo"] = first(semundo)
	attrs["tmpfile"] = first(tmpfile)
	attrs["fifo"] = first(fifo)
	attrs["dnotify"] = first(dnotify)
	attrs["resident"] = first(resident)
}

// first is an attribute that the first thread has. The others have none.
func first(set func() (get func() string, err error)) attr {
	var get func() string
	var has int // the thread
	return attr{
		set: func(n int) (err error) {
			if n == 0 {
				has = syscall.Gettid()
				get, err = set()
			}
			return err
		},
		get: func() string {
			if syscall.Gettid() != has {
				return ""
			}
			return get()
		},
	}
}

// once asks at the second call, and at no other one.
func once(ask func() string) func() string {
	calls := 0
	return func() string {
		if calls++; calls != 2 {
			return "-"
		}
		return ask()
	}
}

// semundo has a child add 1 to a semaphore, to be undone at its end.
func semundo() (func() string, error) {
	id, err := call(syscall.SYS_SEMGET, 0, 1, 0o600)
	if err != nil {
		return nil, err
	}
	child := exec.Command("/proc/self/exe", "undo", strconv.Itoa(int(id)))
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, err
	}
	in, err := child.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := child.Start(); err != nil {
		return nil, err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return nil, err
	}
	const getval = 12
	return once(func() string {
		_ = in.Close()
		_, _ = child.Process.Wait()
		return number(syscall.SYS_SEMCTL, id, 0, getval)()
	}), nil
}

// undo is semundo's child.
func undo(id string) error {
	n, err := strconv.Atoi(id)
	if err != nil {
		return err
	}
	op := struct{ number, add, flags int16 }{0, 1, 0x1000} // SEM_UNDO
	if err := sys(syscall.SYS_SEMOP, uintptr(n), uintptr(unsafe.Pointer(&op)), 1); err != nil {
		return err
	}
	fmt.Println("added")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func tmpfile() (func() string, error) {
	const flag = 0x410000 // O_TMPFILE
	fd, err := syscall.Open("/tmp", flag|syscall.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	return once(func() string {
		const at, follow = ^uintptr(99), 0x400 // AT_FDCWD, AT_SYMLINK_FOLLOW
		from, err1 := syscall.BytePtrFromString(fmt.Sprintf("/proc/self/fd/%d", fd))
		to, err2 := syscall.BytePtrFromString("/tmp/linked")
		if err1 != nil || err2 != nil {
			return "no path"
		}
		return fmt.Sprint(sys(syscall.SYS_LINKAT, at, uintptr(unsafe.Pointer(from)), at, uintptr(unsafe.Pointer(to)), follow))
	}), nil
}

func fifo() (func() string, error) {
	if err := syscall.Mkfifo("/tmp/fifo", 0o600); err != nil {
		return nil, err
	}
	fd, err := syscall.Open("/tmp/fifo", syscall.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	return func() string {
		p := struct {
			fd              int32
			events, revents int16
		}{int32(fd), 1, 0}
		if err := sys(syscall.SYS_POLL, uintptr(unsafe.Pointer(&p)), 1, 0); err != nil {
			return err.Error()
		}
		return strconv.Itoa(int(p.revents))
	}, nil
}

// dnotify has a child told of files in a directory, by a signal that the child blocks.
func dnotify() (func() string, error) {
	const sig, block = 50, 0
	mask := uint64(1) << (sig - 1)
	if err := sys(syscall.SYS_RT_SIGPROCMASK, block, uintptr(unsafe.Pointer(&mask)), 0, 8); err != nil {
		return nil, err
	}
	child := exec.Command("sleep", "1000")
	if err := errors.Join(child.Start(), os.Mkdir("/tmp/watched", 0o700)); err != nil {
		return nil, err
	}
	fd, err := syscall.Open("/tmp/watched", syscall.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	const setOwner, setSig, notify = 8, 10, 1026
	const create, again = 0x4, 0x80000000
	if err := errors.Join(
		sys(syscall.SYS_FCNTL, uintptr(fd), setSig, sig),
		sys(syscall.SYS_FCNTL, uintptr(fd), notify, create|again),
		sys(syscall.SYS_FCNTL, uintptr(fd), setOwner, uintptr(child.Process.Pid)),
	); err != nil {
		return nil, err
	}
	return once(func() string {
		if err := os.WriteFile("/tmp/watched/file", nil, 0o600); err != nil {
			return err.Error()
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child.Process.Pid))
		if err != nil {
			return err.Error()
		}
		return strconv.FormatBool(strings.Contains(string(status), fmt.Sprintf("ShdPnd:\t%016x", mask)))
	}), nil
}

// resident has memory locked as it is used, and counts the pages that are in memory.
func resident() (func() string, error) {
	memory, err := syscall.Mmap(-1, 0, 16<<12, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON)
	if err != nil {
		return nil, err
	}
	at := uintptr(unsafe.Pointer(&memory[0]))
	if err := sys(325, at, 16<<12, 1); err != nil { // mlock2, MLOCK_ONFAULT
		return nil, err
	}
	return func() string {
		var in [16]byte
		if err := sys(syscall.SYS_MINCORE, at, 16<<12, uintptr(unsafe.Pointer(&in))); err != nil {
			return err.Error()
		}
		return strconv.Itoa(strings.Count(string(in[:]), "\x01"))
	}, nil
}
