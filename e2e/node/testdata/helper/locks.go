package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// setOpenLock is F_OFD_SETLK.
const setOpenLock = 37

// locks takes an exclusive lock of each kind, and one in a child, in files of dir. It counts in a file
// there for as long as it runs.
func locks(dir string) error {
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o666)
		check(err)
		return f
	}
	whole := open("flock")
	check(syscall.Flock(int(whole.Fd()), syscall.LOCK_EX))
	part := open("open")
	check(syscall.FcntlFlock(part.Fd(), setOpenLock, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: 10, Len: 10}))
	own := open("process")
	check(syscall.FcntlFlock(own.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK, Start: 100, Len: 1}))
	check(syscall.FcntlFlock(own.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_RDLCK, Start: 200}))
	child := exec.Command("/proc/self/exe", "lock", filepath.Join(dir, "child"))
	check(child.Start())
	counter := open("counter")
	fmt.Println("HELPER HAS LOCKS")
	for n := uint64(1); ; n++ {
		_, err := counter.WriteAt(binary.LittleEndian.AppendUint64(nil, n), 0)
		check(err)
		time.Sleep(time.Millisecond)
		_ = whole.Fd() // all stay open
		_, _ = part.Fd(), own.Fd()
	}
}

// lock takes the lock of a process on a file.
func lock(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err == nil {
		err = syscall.FcntlFlock(f.Fd(), syscall.F_SETLK, &syscall.Flock_t{Type: syscall.F_WRLCK})
	}
	check(err)
	for {
		time.Sleep(time.Hour)
		_ = f.Fd()
	}
}
