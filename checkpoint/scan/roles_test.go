package scan

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

const readWrite = unix.PROT_READ | unix.PROT_WRITE

// lowest is an address below everything else that a process has mapped.
const lowest = 0x100000

// gigabyte has memory whose rest, behind what is filled, is zeros.
func gigabyte(c *child, advice, filled int) {
	mem := c.mmap(1<<30, readWrite)
	c.must(unix.Madvise(mem, advice))
	fill(mem[:filled], 1)
	for i := filled; i < len(mem); i += stream.PageSize {
		mem[i] = 0
	}
	c.ready()
	c.await()
}

// roles are what children do. Those that go on for ever are stopped by the test.
var roles = map[string]func(*child){
	"plain": func(c *child) {
		fill(c.mmap(64*mib, readWrite), 1)
		c.ready()
		c.await()
	},
	"gigabyte":           func(c *child) { gigabyte(c, unix.MADV_NOHUGEPAGE, 1<<30) },
	"half gigabyte":      func(c *child) { gigabyte(c, unix.MADV_NOHUGEPAGE, 1<<29) },
	"huge gigabyte":      func(c *child) { gigabyte(c, unix.MADV_HUGEPAGE, 1<<30) },
	"huge half gigabyte": func(c *child) { gigabyte(c, unix.MADV_HUGEPAGE, 1<<29) },
	"steps":              steps,
	"equal": func(c *child) {
		const size = 8 * mib
		both := c.mmapApart(2 * size) // so that equal pages are on the same lane of two
		a, b := both[:size], both[size:]
		fill(a, 1)
		copy(b, a)
		c.ready()
		c.await()
		fill(a, 1000) // b keeps what a had
		fmt.Println("done")
		c.await()
	},
	"writers": func(c *child) {
		mem := c.mmap(24*mib, readWrite)
		fill(mem, 1)
		scribble(c, mem, 4)
	},
	"huge pages": func(c *child) {
		mem := c.mmap(24*mib, readWrite)
		c.must(unix.Madvise(mem, unix.MADV_HUGEPAGE))
		fill(mem, 1)
		scribble(c, mem, 2)
	},
	"threads": func(c *child) {
		for range 200 {
			go func() {
				runtime.LockOSThread()
				mem := c.mmap(256<<10, readWrite)
				for i := uint64(0); ; i++ {
					fillPage(mem[i*stream.PageSize%uint64(len(mem)):][:stream.PageSize], i)
					//house:allow time.Sleep: the pace of what threads write
					time.Sleep(time.Millisecond)
				}
			}()
		}
		c.ready()
		c.await()
	},
	"hidden": func(c *child) {
		mem := c.mmap(16*mib, readWrite)
		fill(mem, 1)
		c.must(unix.Mprotect(mem[4*mib:8*mib], unix.PROT_NONE))
		c.must(unix.Mprotect(mem[9*mib:][:stream.PageSize], unix.PROT_NONE))
		c.ready()
		c.await()
	},
	"reserved": func(c *child) {
		mem := c.mmap(100<<30, readWrite)
		for i := 0; i < len(mem); i += len(mem) / 64 {
			mem[i] = 1
		}
		c.ready()
		c.await()
	},
	"code first": func(c *child) {
		_, err := unix.MmapPtr(-1, 0, unsafe.Add(nil, lowest), 4*stream.PageSize, readWrite|unix.PROT_EXEC, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_FIXED)
		c.must(err)
		c.ready()
		c.await()
	},
	"remap":   remap,
	"swap":    swap,
	"discard": discard,
	"forks":   forks,
	"brief": func(c *child) {
		mem := c.mmap(4*mib, readWrite)
		fill(mem, uint64(os.Getpid()))
		for end := time.Now().Add(20 * time.Millisecond); time.Now().Before(end); {
			mem[c.random.IntN(len(mem))]++
		}
	},
}

// steps changes three known pages when it is told to.
func steps(c *child) {
	mem := c.mmap(16*mib, readWrite)
	fill(mem, 1)
	fmt.Println("ready", uintptr(unsafe.Pointer(&mem[0])))
	for i := 1; ; i++ {
		c.await()
		for _, page := range []int{0, 1000, 4095} {
			mem[page*stream.PageSize+17] = byte(i)
		}
		fmt.Println("done")
	}
}

// scribble writes at random from several threads, for ever.
func scribble(c *child, mem []byte, writers int) {
	for i := range writers {
		go func() {
			runtime.LockOSThread()
			n := uint64(i + 1)
			for {
				n = n*6364136223846793005 + 1442695040888963407
				at := n >> 11 % uint64(len(mem))
				switch n >> 60 {
				case 0:
					clear(mem[at&^(stream.PageSize-1):][:stream.PageSize])
				case 1, 2:
					fillPage(mem[at&^(stream.PageSize-1):][:stream.PageSize], n>>40)
				default:
					mem[at]++
				}
				if n>>58 == 7 {
					runtime.Gosched()
				}
			}
		}()
	}
	c.ready()
	c.await()
}

// remap moves 2 MiB and single pages around, also on top of each other, for ever.
func remap(c *child) {
	const size = 32 * mib
	area := c.mmapApart(size)
	fill(area, 1)
	c.ready()
	go c.await() // ends with the test
	for i := uint64(0); ; i++ {
		unit := 2 * mib
		if c.random.IntN(2) == 0 {
			unit = stream.PageSize
		}
		from, to := c.random.IntN(size/unit)*unit, c.random.IntN(size/unit)*unit
		if from == to {
			continue
		}
		old, at := unsafe.Pointer(&area[from]), unsafe.Pointer(&area[to])
		_, err := unix.MremapPtr(old, uintptr(unit), at, uintptr(unit), unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED)
		if err == unix.EFAULT { // of several mappings, as many kernels say; holes are left
			c.remmap(area[from : from+unit])
			c.remmap(area[to : to+unit])
			fill(area[from:from+unit], i)
			continue
		}
		c.must(err)
		c.remmap(area[from : from+unit])
		fillPage(area[from:][:stream.PageSize], i)
	}
}

// swap lets two buffers change places over and over, without writing to them.
func swap(c *child) {
	const size = 8 * mib
	area := c.mmapApart(3 * size)
	c.must(unix.Madvise(area, unix.MADV_NOHUGEPAGE))
	fill(area[:size], 1)
	fill(area[size:2*size], 1<<20)
	place := func(n int) unsafe.Pointer { return unsafe.Pointer(&area[n*size]) }
	move := func(from, to int) {
		_, err := unix.MremapPtr(place(from), size, place(to), size, unix.MREMAP_MAYMOVE|unix.MREMAP_FIXED)
		c.must(err)
	}
	c.ready()
	go c.await() // ends with the test
	for {
		move(0, 2)
		move(1, 0)
		move(2, 1)
		for end := time.Now().Add(time.Duration(c.random.IntN(3000)) * time.Microsecond); time.Now().Before(end); {
			runtime.Gosched()
		}
	}
}

// discard gives pages back and writes others, for ever.
func discard(c *child) {
	mem := c.mmap(32*mib, readWrite)
	fill(mem, 1)
	c.ready()
	go c.await() // ends with the test
	for i := uint64(0); ; i++ {
		at := c.random.IntN(len(mem)-mib) &^ (stream.PageSize - 1)
		n := (1 + c.random.IntN(64)) * stream.PageSize
		if i%3 == 0 {
			c.must(unix.Madvise(mem[at:at+n], unix.MADV_DONTNEED))
		} else {
			fill(mem[at:at+n], i)
		}
	}
}

// forks starts short-lived processes, for ever: Go forks with shared memory and
// executes itself.
func forks(c *child) {
	var mem atomic.Pointer[[]byte]
	first := c.mmap(8*mib, readWrite)
	fill(first, 1)
	mem.Store(&first)
	c.ready()
	go c.await() // ends with the test
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for {
				cmd := exec.Command("/proc/self/exe")
				cmd.Env = append(os.Environ(), roleEnv+"=brief")
				c.must(cmd.Run())
				for i := range 100 {
					(*mem.Load())[i*50021%len(*mem.Load())]++
				}
			}
		})
	}
	all.Wait()
}
