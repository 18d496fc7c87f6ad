package scan

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/stream"
)

// pageRange is consecutive pages of a process.
type pageRange struct {
	addr  uint64
	pages int
}

func (e pageRange) size() int { return e.pages * stream.PageSize }

// reader reads memory of other processes. It keeps its vectors between calls. It also keeps the
// process that it has read last, with its memory file if it needed that.
type reader struct {
	remote  []unix.RemoteIovec
	task    Task
	process *pidmap.Hold // of task
	mem     *os.File     // of task
}

// read fills buf with the ranges of the process, one after the other. It sets lost for each page
// that could not be read, and returns the first reason. A process is read by its pid. If it has
// ended by then, the memory may be that of another one. All of it is lost then.
func (r *reader) read(t Task, extents []pageRange, buf []byte, lost []bool) error {
	err := r.openProcess(t)
	if err == nil {
		err = r.readAll(t.PID, extents, buf, lost)
		if ended := r.process.Alive(); ended == nil {
			return err
		} else if err == nil {
			err = ended
		}
	}
	markLost(lost, extents)
	return err
}

// openProcess opens a process instead of the one before.
func (r *reader) openProcess(t Task) error {
	if r.process != nil && r.task == t {
		return nil
	}
	err := r.close()
	if err == nil {
		r.process, err = pidmap.Take(t.PID, t.Began)
	}
	r.task = t
	return err
}

func (r *reader) readAll(pid int, extents []pageRange, buf []byte, lost []bool) (first error) {
	clear(lost)
	for len(extents) > 0 {
		n, err := r.readv(pid, extents, buf)
		if err != nil && !errors.Is(err, unix.EFAULT) {
			markLost(lost, extents)
			return errors.Join(first, err)
		}
		for len(extents) > 0 && n >= extents[0].size() {
			size := extents[0].size()
			n -= size
			extents, buf, lost = extents[1:], buf[size:], lost[size/stream.PageSize:]
		}
		if len(extents) == 0 {
			break
		}
		size := extents[0].size()
		if err := r.readForced(pid, extents[0].addr, buf[:size], n, lost); err != nil && first == nil {
			first = err
		}
		extents, buf, lost = extents[1:], buf[size:], lost[size/stream.PageSize:]
	}
	return first
}

func markLost(lost []bool, extents []pageRange) {
	n := 0
	for _, e := range extents {
		n += e.pages
	}
	for i := range n {
		lost[i] = true
	}
}

// readv reads as much as it can in one call and returns the number of bytes.
func (r *reader) readv(pid int, extents []pageRange, buf []byte) (int, error) {
	r.remote = r.remote[:0]
	size := 0
	for _, e := range extents {
		r.remote = append(r.remote, unix.RemoteIovec{Base: uintptr(e.addr), Len: e.size()})
		size += e.size()
	}
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(size)
	n, err := linux.RetryValue(func() (int, error) { return unix.ProcessVMReadv(pid, local, r.remote, 0) })
	return max(0, n), err
}

// readForced reads a range from byte from on through /proc/PID/mem. That reads memory that the
// process itself may not read.
func (r *reader) readForced(pid int, addr uint64, buf []byte, from int, lost []bool) (first error) {
	from -= from % stream.PageSize
	mem, err := r.memory(pid)
	for from < len(buf) {
		n := 0
		if err == nil {
			n, err = mem.ReadAt(buf[from:], int64(addr)+int64(from))
		}
		if errors.Is(err, io.EOF) { // what the file of a process without memory gives
			err = unix.ESRCH
		}
		if err == nil {
			break
		}
		if first == nil {
			first = err
		}
		from += n - n%stream.PageSize
		lost[from/stream.PageSize] = true
		from += stream.PageSize
		if errors.Is(err, unix.EIO) || errors.Is(err, unix.EFAULT) {
			err = nil // of this page alone
		}
	}
	return first
}

// memory is the memory file of the process.
func (r *reader) memory(pid int) (*os.File, error) {
	if r.mem != nil {
		return r.mem, nil
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, err
	}
	r.mem = mem
	return mem, nil
}

func (r *reader) close() (err error) {
	if r.mem != nil {
		err = r.mem.Close()
	}
	if r.process != nil {
		r.process.Close()
	}
	r.mem, r.process = nil, nil
	return err
}
