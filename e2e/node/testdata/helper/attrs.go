package main

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// attr is an attribute of a thread or a process. set gives it another value than the usual one,
// which depends on n; get tells it.
type attr struct {
	set func(n int) error
	get func() string
}

var attrs = map[string]attr{
	"cpu":         {func(n int) error { return sys(syscall.SYS_SCHED_SETAFFINITY, 0, 8, ptr(uint64(1)<<uint(n%2))) }, affinity},
	"ioprio":      {func(n int) error { return sys(syscall.SYS_IOPRIO_SET, 1, 0, uintptr(2<<13|n%8)) }, number(syscall.SYS_IOPRIO_GET, 1, 0)},
	"slack":       {func(n int) error { return prctl(29, uintptr(1000+n)) }, number(syscall.SYS_PRCTL, 30)},
	"personality": {func(int) error { return sys(syscall.SYS_PERSONALITY, 0x0040000) }, number(syscall.SYS_PERSONALITY, 0xffffffff)},
	"mce":         {func(n int) error { return prctl(33, 1, uintptr(n%2)) }, number(syscall.SYS_PRCTL, 34)},
	"mempolicy":   {func(int) error { return sys(syscall.SYS_SET_MEMPOLICY, 3, ptr(1), 64) }, func() string { return policy(0, 0) }},
	// of the process
	"filter":  {func(int) error { return os.WriteFile("/proc/self/coredump_filter", []byte("0x7"), 0) }, coredumpFilter},
	"merge":   {func(int) error { return prctl(67, 1) }, number(syscall.SYS_PRCTL, 68)},
	"mdwe":    {func(int) error { return prctl(65, 1) }, number(syscall.SYS_PRCTL, 66)},
	"mbind":   {func(int) error { return sys(syscall.SYS_MBIND, area(0), 8192, 2, ptr(1), 64) }, func() string { return policy(area(0), 2) + policy(area(2), 2) }},
	"onfault": {func(int) error { return sys(325, area(6), 4096, 1) }, lockedOnFault},
	"mseal": {func(int) error { return sys(462, area(4), 4096) }, func() string {
		return fmt.Sprint(syscall.Mprotect(areas[4<<12:5<<12], syscall.PROT_READ), syscall.Mprotect(areas[5<<12:6<<12], syscall.PROT_READ))
	}},
}

// areas is memory for those that are about memory.
var areas []byte

func area(page int) uintptr { return uintptr(unsafe.Pointer(&areas[page<<12])) }

func ptr(n uint64) uintptr { return uintptr(unsafe.Pointer(&n)) }

func sys(nr uintptr, args ...uintptr) error {
	_, err := call(nr, args...)
	return err
}

func call(nr uintptr, args ...uintptr) (uintptr, error) {
	var a [6]uintptr
	copy(a[:], args)
	n, _, errno := syscall.RawSyscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
	if errno != 0 {
		return 0, errno
	}
	return n, nil
}

func prctl(args ...uintptr) error { return sys(syscall.SYS_PRCTL, args...) }

func number(nr uintptr, args ...uintptr) func() string {
	return func() string {
		n, err := call(nr, args...)
		if err != nil {
			return err.Error()
		}
		return strconv.Itoa(int(n))
	}
}

func affinity() string {
	var set [128]uint64
	if err := sys(syscall.SYS_SCHED_GETAFFINITY, 0, 1024, uintptr(unsafe.Pointer(&set))); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x", set[0])
}

func policy(at, flags uintptr) string {
	var mode int32
	var nodes [16]uint64
	if err := sys(syscall.SYS_GET_MEMPOLICY, uintptr(unsafe.Pointer(&mode)), uintptr(unsafe.Pointer(&nodes)), 1024, at, flags); err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%x:%x;", mode, nodes[0])
}

func coredumpFilter() string {
	data, err := os.ReadFile("/proc/self/coredump_filter")
	return fmt.Sprint(strings.TrimSpace(string(data)), err)
}

// lockedOnFault tells which of the areas are locked as they are used.
func lockedOnFault() string {
	data, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return err.Error()
	}
	told, start := "", uint64(0)
	for line := range strings.Lines(string(data)) {
		if from, _, ok := strings.Cut(line, "-"); ok && len(from) >= 8 && !strings.Contains(from, ":") {
			start, _ = strconv.ParseUint(from, 16, 64)
		}
		if strings.HasPrefix(line, "VmFlags:") && strings.Contains(line, " lf") {
			told += fmt.Sprint((start-uint64(area(0)))>>12, ";")
		}
	}
	return told
}

// attributes has these, each with another value in each of some threads, and tells them at the
// beginning and at each SIGUSR1.
func attributes(names []string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	var err error
	if areas, err = syscall.Mmap(-1, 0, 8<<12, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_PRIVATE|syscall.MAP_ANON); err != nil {
		return err
	}
	const threads = 3
	ask, answers := [threads]chan bool{}, [threads]chan string{}
	for n := range threads {
		ask[n], answers[n] = make(chan bool), make(chan string)
		go func() {
			runtime.LockOSThread()
			for _, name := range names {
				if err := attrs[name].set(n); err != nil {
					check(fmt.Errorf("%s: %w", name, err))
				}
			}
			for range ask[n] {
				told := ""
				for _, name := range names {
					told += fmt.Sprintf(" %d:%s=%s", n, name, attrs[name].get())
				}
				answers[n] <- told
			}
		}()
	}
	for i := 0; ; i++ {
		told := ""
		for n := range threads {
			ask[n] <- true
			told += <-answers[n]
		}
		fmt.Println("STATE", i, strings.TrimSpace(told))
		<-signals
	}
}
