package uffd

import (
	"encoding/binary"
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// helloPair is CRIU's end of a connection, and ours as listen makes it.
func helloPair(t testing.TB) (theirs int, ours criuConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fds[1]), "hello")
	defer f.Close()
	if err := unix.SetsockoptInt(fds[1], unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		t.Fatal(err)
	}
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	return fds[0], criuConn{c.(*net.UnixConn)}
}

// abandoned tells whether the reading end of a pipe is closed everywhere.
func abandoned(t testing.TB, w int) bool {
	t.Helper()
	p := []unix.PollFd{{Fd: int32(w), Events: unix.POLLOUT}}
	if _, err := unix.Poll(p, 0); err != nil {
		t.Fatal(err)
	}
	return p[0].Revents&unix.POLLERR != 0
}

func numbers(n ...int32) (b []byte) {
	for _, v := range n {
		b = binary.NativeEndian.AppendUint32(b, uint32(v))
	}
	return b
}

// FuzzHellos has CRIU say anything, with descriptors anywhere. What is understood is in
// range, and of the descriptors none is lost: each is in a hello, or closed.
func FuzzHellos(f *testing.F) {
	f.Add(append(numbers(7), 0), uint8(4), uint8(1))
	f.Add(numbers(-7, restoreFinished), uint8(0), uint8(0))
	f.Add(append(numbers(7), 0), uint8(0), uint8(1))
	f.Add(append(numbers(7), 0), uint8(2), uint8(2))
	f.Add(append(numbers(7), 0), uint8(4), uint8(40))
	f.Add(numbers(0, maxPID+1, -maxPID-1), uint8(8), uint8(0))
	f.Fuzz(func(t *testing.T, data []byte, at, count uint8) {
		data = data[:min(len(data), 4096)]
		theirs, ours := helloPair(t)
		defer ours.Close()
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		defer unix.Close(pipe[1])
		sendAround(t, theirs, data, min(int(at), len(data)), pipe[0], int(count))
		unix.Close(pipe[0])
		unix.Close(theirs)
		for {
			h, err := ours.next()
			if err != nil {
				break
			}
			if !h.finished && (h.vpid < 1 || h.vpid > maxPID) {
				t.Errorf("vpid %d passes", h.vpid)
			}
			if h.fd != 0 {
				unix.Close(h.fd)
			}
		}
		ours.Close() // with what was not read
		if !abandoned(t, pipe[1]) {
			t.Error("a descriptor was lost")
		}
	})
}

// sendAround sends data, with count times fd at the byte at.
func sendAround(t testing.TB, to int, data []byte, at, fd, count int) {
	t.Helper()
	if at > 0 {
		if _, err := unix.Write(to, data[:at]); err != nil {
			t.Fatal(err)
		}
	}
	if at == len(data) {
		return
	}
	var rights []byte
	if count > 0 {
		fds := make([]int, count)
		for i := range fds {
			fds[i] = fd
		}
		rights = unix.UnixRights(fds...)
	}
	if err := unix.Sendmsg(to, data[at:], rights, nil, 0); err != nil && count <= 253 { // SCM_MAX_FD
		t.Fatal(err)
	}
}
