package pages

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/image"
)

// Every zeroEvery-th page of a child's memory is zero.
const zeroEvery = 7

const (
	roleEnv  = "PAGES_TEST_ROLE"
	pagesEnv = "PAGES_TEST_PAGES"
)

// As a child the test binary fills memory, says where it is, and waits for its input
// to end.
func TestMain(m *testing.M) {
	role, isChild := os.LookupEnv(roleEnv)
	if !isChild {
		os.Exit(m.Run())
	}
	if err := play(role); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func play(role string) error {
	pages, err := strconv.Atoi(os.Getenv(pagesEnv))
	if err != nil {
		return err
	}
	mem, err := unix.Mmap(-1, 0, pages*image.PageSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return err
	}
	for i := range pages {
		fillPage(mem[i*image.PageSize:][:image.PageSize], i)
	}
	middle := mem[pages/2*image.PageSize:][:image.PageSize]
	switch role {
	case "hidden":
		err = unix.Mprotect(mem, unix.PROT_NONE)
	case "hidden page":
		err = unix.Mprotect(middle, unix.PROT_NONE)
	case "hole":
		err = unix.MunmapPtr(unsafe.Pointer(&middle[0]), image.PageSize)
	}
	if err != nil {
		return err
	}
	fmt.Println(uintptr(unsafe.Pointer(&mem[0])))
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// fillPage writes what the i-th page of a child's memory holds.
func fillPage(page []byte, i int) {
	if i%zeroEvery == 0 {
		clear(page)
		return
	}
	binary.LittleEndian.PutUint64(page, uint64(i)*0x9e3779b97f4a7c15|1<<63)
	for n := 8; n < len(page); n *= 2 {
		copy(page[n:], page[:n])
	}
}

type process struct {
	pid   int
	addr  uint64
	pages int64
	cmd   *exec.Cmd
}

func (p process) region() image.Region {
	return image.Region{Addr: p.addr, Pages: p.pages, Lazy: true}
}

// launch runs a child with that much memory until the test ends.
func launch(t testing.TB, role string, pages int) process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), roleEnv+"="+role, pagesEnv+"="+strconv.Itoa(pages))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState != nil {
			return // the test has made an end of it
		}
		if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
			t.Error(err)
		}
	})
	p := process{pid: cmd.Process.Pid, pages: int64(pages), cmd: cmd}
	if _, err := fmt.Fscanln(bufio.NewReader(out), &p.addr); err != nil {
		t.Fatalf("the child never got ready: %v", err)
	}
	needReadable(t, p)
	return p
}

// needReadable skips where the kernel does not let us look into our own children.
func needReadable(t testing.TB, p process) {
	t.Helper()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", p.pid))
	if err == nil {
		_ = mem.Close()
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("memory of a child cannot be read: %v", err)
	}
	t.Skipf("memory of a child cannot be read: %v", err)
}
