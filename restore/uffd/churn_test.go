package uffd

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

// chunkOfMemory is a piece of memory that a thread of churn owns.
type chunkOfMemory struct {
	addr  uintptr
	state []int // page number that it holds, or -1 for zero
}

//go:nosplit
//go:norace
func (c *chunkOfMemory) wrong() int {
	for i := range c.state {
		if !rightPage(c.addr+uintptr(i)*stream.PageSize, c.state[i], c.state[i] < 0) {
			return i
		}
	}
	return -1
}

// churn lets threads move, grow, discard, unmap, overwrite and check their memory, while the pages
// arrive. Now and then one forks.
func (t *testTask) churn(threads, rounds int, seed uint64) error {
	const per = 24
	var still sync.RWMutex // held for writing around a fork
	errs := make(chan error, threads)
	owned := make([][]chunkOfMemory, threads)
	for p := 0; p+per <= t.pages; p += per {
		c := chunkOfMemory{addr: t.at(p)}
		for i := range per {
			c.state = append(c.state, p+i)
		}
		i := p / per % threads
		owned[i] = append(owned[i], c)
	}
	for i := range threads {
		go func() {
			runtime.LockOSThread()
			errs <- churnOwn(rand.New(rand.NewPCG(seed, uint64(i))), &still, owned[i], rounds)
		}()
	}
	var err error
	for left := threads; left > 0; {
		select {
		case e := <-errs:
			err = errors.Join(err, e)
			left--
		case <-time.After(50 * time.Millisecond):
			still.Lock()
			err = errors.Join(err, forkAndCheck(owned))
			still.Unlock()
		}
	}
	for _, own := range owned {
		for i := range own {
			if p := own[i].wrong(); p >= 0 {
				err = errors.Join(err, fmt.Errorf("page %d of %#x wrong at the end", p, own[i].addr))
			}
		}
	}
	return err
}

func forkAndCheck(owned [][]chunkOfMemory) error {
	pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
	if errno != 0 {
		return errno
	}
	if pid == 0 {
		for i := range owned {
			for j := range owned[i] {
				if owned[i][j].wrong() >= 0 {
					syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 1, 0, 0)
				}
			}
		}
		syscall.RawSyscall(syscall.SYS_EXIT_GROUP, 0, 0, 0)
	}
	return childStatus(int(pid))
}

func churnOwn(rnd *rand.Rand, still *sync.RWMutex, own []chunkOfMemory, rounds int) error {
	for range rounds {
		still.RLock()
		err := own[rnd.IntN(len(own))].disturb(rnd)
		still.RUnlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *chunkOfMemory) disturb(rnd *rand.Rand) error {
	size := uintptr(len(c.state)) * stream.PageSize
	if size == 0 {
		return nil
	}
	from := rnd.IntN(len(c.state))
	n := 1 + rnd.IntN(len(c.state)-from)
	at := c.addr + uintptr(from)*stream.PageSize
	switch rnd.IntN(12) {
	case 0, 1, 2: // grow, which moves it where there is room, and shrink again
		addr, _, errno := unix.Syscall6(unix.SYS_MREMAP, c.addr, size, size+3*stream.PageSize, unix.MREMAP_MAYMOVE, 0, 0)
		if errno != 0 {
			return fmt.Errorf("grow: %w", errno)
		}
		c.addr = addr
		if _, _, errno := unix.Syscall6(unix.SYS_MREMAP, c.addr, size+3*stream.PageSize, size, 0, 0, 0); errno != 0 {
			return fmt.Errorf("shrink: %w", errno)
		}
	case 3:
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, at, uintptr(n)*stream.PageSize, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("discard: %w", errno)
		}
		for i := range n {
			c.state[from+i] = -1
		}
	case 4: // drop the tail
		if _, _, errno := unix.Syscall(unix.SYS_MUNMAP, at, size-uintptr(from)*stream.PageSize, 0); errno != 0 {
			return fmt.Errorf("unmap: %w", errno)
		}
		c.state = c.state[:from]
	case 5, 6: // overwrite with another number
		num := rnd.IntN(1 << 20)
		for off := uintptr(0); off < stream.PageSize; off += 8 {
			p := at + off
			*(*uint64)(*(*unsafe.Pointer)(unsafe.Pointer(&p))) = word(uint64(num), uint64(off))
		}
		c.state[from] = num
	default:
		if !rightPage(at, c.state[from], c.state[from] < 0) {
			return fmt.Errorf("page %d of %#x is wrong, want number %d", from, c.addr, c.state[from])
		}
	}
	return nil
}
