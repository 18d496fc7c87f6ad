package main

import (
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
)

// A job outlives the terminal, the pipe and the node that its command was started from. So it reads
// files. What stands in another kind of stdin is not dropped in silence: the command refuses it, or
// says so when it comes later.

const stdinHint = "write it into a file and name that: `migrate run -i FILE …`; without input: `migrate run … < /dev/null`"

// errInput says that stdin has data that the job would not get.
var errInput = errors.New("a job reads its stdin from a file, and something else is waiting on the stdin of this command")

// errSharedInput says that stdin is a file which another program has begun to read.
var errSharedInput = errors.New("stdin is a file that another program has begun to read, such as a shell its script; the job has no input; " + stdinHint)

// inputFile is the path of the file that stdin is, "" if there is nothing to read.
func inputFile(in *os.File) (string, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(in.Fd()), &st); err != nil {
		return "", nil // it is closed
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		if n, ok := waiting(in); ok && n > 0 && st.Mode&unix.S_IFMT != unix.S_IFCHR {
			return "", fmt.Errorf("%w (%d bytes); %s", errInput, n, stdinHint)
		}
		return "", nil
	}
	at, err := unix.Seek(int(in.Fd()), 0, unix.SEEK_CUR)
	if err != nil || at >= st.Size {
		return "", nil
	}
	if at > 0 { // by a shell that runs it as its script, or reads it in a loop
		return "", errSharedInput
	}
	path, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", in.Fd()))
	if err != nil {
		return "", fmt.Errorf("find the file that stdin is: %w; %s", err, stdinHint)
	}
	var named unix.Stat_t
	if err := unix.Stat(path, &named); err != nil || named.Dev != st.Dev || named.Ino != st.Ino {
		return "", fmt.Errorf("stdin is a file without a name, such as a here-document of a shell, which a job cannot open; %s", stdinHint)
	}
	return path, nil
}

// waiting is how many bytes can be read from a pipe, a socket or a terminal. The kernel tells of no
// others.
func waiting(in *os.File) (int, bool) {
	n, err := unix.IoctlGetInt(int(in.Fd()), unix.TIOCINQ)
	return n, err == nil
}

// watchInput calls came once, when something comes on a stdin that the job does not have. stop ends it.
func watchInput(in *os.File, came func()) (stop func()) {
	ended, end, err := os.Pipe()
	if err != nil {
		return func() {}
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		fds := []unix.PollFd{{Fd: int32(in.Fd()), Events: unix.POLLIN}, {Fd: int32(ended.Fd()), Events: unix.POLLIN}}
		err := linux.Retry(func() error { _, err := unix.Poll(fds, -1); return err })
		if n, ok := waiting(in); err == nil && fds[1].Revents == 0 && ok && n > 0 {
			came()
		}
	})
	return func() {
		_ = end.Close()
		watching.Wait()
		_ = ended.Close()
	}
}
