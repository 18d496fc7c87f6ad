package namespaces

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// readVisit leaves configFD as it is, so that nothing else comes to be there.
func readVisit() (v Visit, err error) {
	fd, err := unix.FcntlInt(configFD, unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return v, err
	}
	f := os.NewFile(uintptr(fd), "visit")
	defer f.Close()
	if err := json.NewDecoder(f).Decode(&v); err != nil {
		return v, fmt.Errorf("read what to run: %w", err)
	}
	return v, nil
}

// memfile is a descriptor to read v from.
func memfile(v Visit) (int, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return 0, err
	}
	fd, err := unix.MemfdCreate("visit", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, err
	}
	if _, err := unix.Write(fd, data); err != nil {
		return 0, err
	}
	_, err = unix.Seek(fd, 0, io.SeekStart)
	return fd, err
}

// inside runs in all namespaces of the job, as the job's user, and becomes the command.
func inside() error {
	runtime.LockOSThread()
	if _, err := unix.Write(reportFD, []byte(entered)); err != nil {
		return err
	}
	v, err := readVisit()
	if err != nil {
		return err
	}
	// What it leaves behind must not be of a session from outside: CRIU refuses it.
	if _, err := unix.Setsid(); err != nil {
		return fmt.Errorf("become session leader: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set no_new_privs: %w", err)
	}
	// The visitor must not outlive the one who asked for it. Its first thread was told
	// so before; the one that executes takes its place.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return err
	}
	if err := os.Chdir(v.WorkDir); err != nil {
		return fmt.Errorf("enter the work directory: %w", err)
	}
	path, err := lookCommand(v.Args[0], v.Env)
	if err != nil {
		return err
	}
	return execute(path, v.Args, v.Env)
}
