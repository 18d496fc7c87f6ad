package main

import (
	"fmt"
	"runtime"
	"syscall"
	"unsafe"
)

// filter leaves one thread behind that has two seccomp filters, which allow everything; the
// others have none.
func filter() error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := twoFilters()
		done <- err
		select {} // the thread stays
	}()
	return <-done
}

func twoFilters() error {
	const (
		setSeccomp   = 22 // PR_SET_SECCOMP
		modeFilter   = 2  // SECCOMP_MODE_FILTER
		returnAction = 6  // BPF_RET | BPF_K
		allow        = 0x7fff0000
	)
	type instruction struct {
		code   uint16
		jt, jf uint8
		k      uint32
	}
	program := []instruction{{code: returnAction, k: allow}}
	fprog := struct {
		size   uint16
		filter *instruction
	}{1, &program[0]}
	for range 2 {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, setSeccomp, modeFilter, uintptr(unsafe.Pointer(&fprog))); errno != 0 {
			return fmt.Errorf("seccomp: %w", errno)
		}
	}
	return nil
}
