package pages

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// reader reads memory of other processes. It keeps its vectors between calls.
type reader struct {
	local  []unix.Iovec
	remote []unix.RemoteIovec
}

// read fills each slot with its piece. The pieces of a process follow each other.
func (r *reader) read(pieces []piece, slots [][]byte) error {
	for len(pieces) > 0 {
		pid := pieces[0].pid
		n := slices.IndexFunc(pieces, func(p piece) bool { return p.pid != pid })
		if n < 0 {
			n = len(pieces)
		}
		if err := r.readProcess(pieces[:n], slots[:n]); err != nil {
			return err
		}
		pieces, slots = pieces[n:], slots[n:]
	}
	return nil
}

// readProcess reads pieces of one process. Where process_vm_readv stops, the piece is
// finished through /proc/PID/mem, and the next is tried the fast way again.
func (r *reader) readProcess(pieces []piece, slots [][]byte) error {
	for len(pieces) > 0 {
		n, err := r.readv(pieces, slots)
		if err != nil && !errors.Is(err, unix.EFAULT) {
			return &ReadError{VPID: pieces[0].vpid, PID: pieces[0].pid, Addr: pieces[0].addr, Err: err}
		}
		for len(pieces) > 0 && n >= pieces[0].size() {
			n -= pieces[0].size()
			pieces, slots = pieces[1:], slots[1:]
		}
		if len(pieces) == 0 {
			break
		}
		if err := readForced(pieces[0], slots[0], n); err != nil {
			return err
		}
		pieces, slots = pieces[1:], slots[1:]
	}
	return nil
}

// readv reads as much as it can in one call and returns the number of bytes.
func (r *reader) readv(pieces []piece, slots [][]byte) (int64, error) {
	r.local, r.remote = r.local[:0], r.remote[:0]
	for i, p := range pieces {
		iov := unix.Iovec{Base: &slots[i][0]}
		iov.SetLen(len(slots[i]))
		r.local = append(r.local, iov)
		r.remote = append(r.remote, unix.RemoteIovec{Base: uintptr(p.addr), Len: len(slots[i])})
	}
	for {
		n, err := unix.ProcessVMReadv(pieces[0].pid, r.local, r.remote, 0)
		if err == unix.EINTR {
			continue
		}
		return max(0, int64(n)), err
	}
}

// readForced reads a piece from byte from on through /proc/PID/mem, which reads memory
// that the process itself may not.
func readForced(p piece, slot []byte, from int64) error {
	fail := func(at int64, err error) error {
		return &ReadError{VPID: p.vpid, PID: p.pid, Addr: p.addr + uint64(at), Err: err}
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.pid))
	if err != nil {
		return fail(from, err)
	}
	defer mem.Close()
	n, err := mem.ReadAt(slot[from:], int64(p.addr)+from)
	if errors.Is(err, io.EOF) { // what the file of a process without memory gives
		err = unix.ESRCH
	}
	if err != nil {
		return fail(from+int64(n), err)
	}
	return nil
}
