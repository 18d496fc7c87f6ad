package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
)

// watch leaves an event unread in a queue of inotify, and counts what is in it at each SIGUSR1, after
// it has made a file with a name of its own.
func watch(dir string) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	fd, err := syscall.InotifyInit1(syscall.IN_NONBLOCK)
	if err != nil {
		return err
	}
	if _, err := syscall.InotifyAddWatch(fd, dir, syscall.IN_CREATE); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "before"), nil, 0o600); err != nil {
		return err
	}
	fmt.Println("HELPER WATCHES")
	<-signals
	if err := os.WriteFile(filepath.Join(dir, "after"), nil, 0o600); err != nil {
		return err
	}
	buf := make([]byte, 4096)
	n, err := syscall.Read(fd, buf)
	if err != nil {
		return err
	}
	fmt.Printf("HELPER READ %q\n", buf[:n])
	select {}
}
