package preflight

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/procfs"
)

// roles are what a job may hold. dir is on the node's tree.
var roles = map[string]func(dir string) error{
	"clean":       playClean,
	"memory":      playMemory,
	"device":      func(string) error { return openNode("/dev/kmsg", 1, 11) },
	"io-uring":    func(string) error { return call(unix.SYS_IO_URING_SETUP, 8, address(&[256]byte{})) },
	"perf":        playPerf,
	"bpf":         playBPF,
	"userfaultfd": func(string) error { return call(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0) },
	"big-deleted": func(dir string) error { return playDeleted(dir, 65<<20) },
	"deleted":     func(dir string) error { return playDeleted(dir, 1<<20) },
	"renamed":     playRenamed,
	"replaced":    playReplaced,
	"huge-pages":  playHugePages,
	"secret":      playSecret,
	"vsock":       func(string) error { return socket(unix.AF_VSOCK, unix.SOCK_STREAM, 0) },
	"mptcp":       playMPTCP,
	"connected":   playConnected,
	"given":       playGiven,
	"backlog":     playBacklog,
	"datagram":    playDatagram,
	"in-flight":   playInFlight,
	"fifo":        playFIFO,
	"nested":      playNested,
	"thread":      playThread,
	"no-leader":   playNoLeader,
	"child-alone": playChildAlone,
	"overlay":     playOverlay,
	"newcomer":    playNewcomer,
	"lease":       func(dir string) error { return lease(filepath.Join(dir, "leased"), unix.F_WRLCK) },
	"lease-read":  func(dir string) error { return lease(filepath.Join(dir, "input"), unix.F_RDLCK) },
	"lease-own":   func(string) error { return lease("/tmp/leased", unix.F_WRLCK) },
}

func play(role, dir string) error {
	f, ok := roles[role]
	if !ok {
		return fmt.Errorf("play %q: no such role", role)
	}
	return f(dir)
}

// keep holds files open for as long as the process lives.
func keep(files ...*os.File) error {
	kept = append(kept, files...)
	return nil
}

var kept []*os.File

func call(nr, a, b uintptr) error {
	if _, _, errno := unix.Syscall(nr, a, b, 0); errno != 0 {
		return os.NewSyscallError(fmt.Sprintf("syscall %d", nr), errno)
	}
	return nil
}

func socket(family, kind, proto int) error {
	_, err := unix.Socket(family, kind, proto)
	return err
}

func playFIFO(dir string) error {
	path := filepath.Join(dir, "fifo")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return keep(f)
}

// playClean holds one of each kind that moves.
func playClean(dir string) error {
	log, err := os.OpenFile(filepath.Join(dir, "log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	input, err := os.Open(filepath.Join(dir, "input"))
	if err != nil {
		return err
	}
	output, err := os.OpenFile(filepath.Join(dir, "output"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	scratch, err := os.Create("/tmp/scratch")
	if err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	null, err := os.OpenFile("/dev/urandom", os.O_RDONLY, 0)
	if err != nil {
		return err
	}
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if _, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0); err != nil {
		return err
	}
	if _, err := unix.MemfdCreate("clean", 0); err != nil {
		return err
	}
	if _, err := unix.Eventfd(0, 0); err != nil {
		return err
	}
	if _, err := unix.PidfdOpen(os.Getpid(), 0); err != nil {
		return err
	}
	for _, c := range [][3]int{{unix.AF_INET, unix.SOCK_STREAM, 0}, {unix.AF_INET6, unix.SOCK_DGRAM, 0}, {unix.AF_NETLINK, unix.SOCK_RAW, 0}} {
		if err := socket(c[0], c[1], c[2]); err != nil {
			return err
		}
	}
	if _, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS); err != nil {
		return err
	}
	return keep(log, input, output, scratch, r, w, null, terminal)
}

// The sizes that playMemory fills, in bytes.
const (
	privateSize = 48 << 20
	sharedSize  = 24 << 20
	tmpfsSize   = 12 << 20
)

func playMemory(string) error {
	for size, flags := range map[int]int{privateSize: unix.MAP_PRIVATE, sharedSize: unix.MAP_SHARED} {
		b, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, flags|unix.MAP_ANONYMOUS)
		if err != nil {
			return err
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	}
	return os.WriteFile("/dev/shm/file", make([]byte, tmpfsSize), 0o600)
}

func openNode(path string, major, minor uint32) error {
	if err := unix.Mknod(path, unix.S_IFCHR|0o600, int(unix.Mkdev(major, minor))); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	return errors.Join(err, keep(f))
}

func playPerf(string) error {
	attr := unix.PerfEventAttr{Type: unix.PERF_TYPE_SOFTWARE, Config: unix.PERF_COUNT_SW_TASK_CLOCK, Size: 112}
	_, err := unix.PerfEventOpen(&attr, 0, -1, -1, 0)
	return err
}

func playBPF(string) error {
	const mapCreate, arrayType = 0, 2
	attr := [16]uint32{arrayType, 4, 8, 1}
	if _, _, errno := unix.Syscall(unix.SYS_BPF, mapCreate, address(&attr), uintptr(len(attr)*4)); errno != 0 {
		return errno
	}
	return nil
}

func playDeleted(dir string, size int64) error {
	f, err := os.Create(filepath.Join(dir, "deleted"))
	if err != nil {
		return err
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return err
	}
	return errors.Join(os.Remove(f.Name()), keep(f))
}

// twoNames makes a file with two names and opens it by the first.
func twoNames(dir string) (*os.File, error) {
	f, err := os.Create(filepath.Join(dir, "one"))
	if err != nil {
		return nil, err
	}
	return f, errors.Join(os.Link(f.Name(), filepath.Join(dir, "two")), keep(f))
}

func playRenamed(dir string) error {
	f, err := twoNames(dir)
	if err != nil {
		return err
	}
	return os.Remove(f.Name())
}

func playReplaced(dir string) error {
	f, err := twoNames(dir)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, "new"), f.Name())
}

func playHugePages(string) error {
	_, err := unix.Mmap(-1, 0, 2<<20, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_HUGETLB|unix.MAP_NORESERVE)
	return err
}

func playSecret(string) error {
	_, err := unix.MemfdSecret(0)
	return err
}

// playMPTCP undoes what keeps jobs from it.
func playMPTCP(string) error {
	if err := os.WriteFile("/proc/sys/net/mptcp/enabled", []byte("1"), 0); err != nil {
		return err
	}
	return socket(unix.AF_INET, unix.SOCK_STREAM, 262)
}

func playConnected(dir string) error {
	c, err := net.Dial("unix", filepath.Join(dir, "service"))
	if err != nil {
		return err
	}
	f, err := c.(*net.UnixConn).File()
	return errors.Join(err, keep(f))
}

// playGiven takes a descriptor from outside and leaves.
func playGiven(dir string) error {
	c, err := net.Dial("unix", filepath.Join(dir, "service"))
	if err != nil {
		return err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := c.(*net.UnixConn).ReadMsgUnix(make([]byte, 1), oob)
	if err != nil || n == 0 {
		return fmt.Errorf("receive a descriptor: %d bytes, %w", n, err)
	}
	return c.Close()
}

func playNested(string) error {
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWUTS | unix.CLONE_NEWPID}
	return cmd.Start()
}

func playThread(string) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- unix.Unshare(unix.CLONE_NEWNET)
		select {}
	}()
	return <-done
}

// playNoLeader ends the main thread, wherever the scheduler has put us.
func playNoLeader(string) error {
	for range 100 {
		try := make(chan struct{})
		go func() {
			runtime.LockOSThread()
			if unix.Gettid() != os.Getpid() {
				close(try)
				select {}
			}
			fmt.Println("ready")
			_, _, _ = unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
		}()
		<-try
	}
	return errors.New("meet the main thread")
}

func playChildAlone(dir string) error {
	cmd := exec.Command(os.Args[0], roleArg, "no-leader", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		return err
	}
	for { // it ends its main thread right after the word
		status, err := procfs.ReadStatus(cmd.Process.Pid)
		if err != nil {
			return err
		}
		if status["State"][0] == 'Z' {
			return nil
		}
		runtime.Gosched()
	}
}

func playOverlay(string) error {
	for _, d := range []string{"/tmp/lower", "/tmp/upper", "/tmp/work", "/tmp/all"} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return err
		}
	}
	return unix.Mount("overlay", "/tmp/all", "overlay", 0, "lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work")
}

// playNewcomer opens, maps and locks when it is told to.
func playNewcomer(dir string) error {
	go func() {
		for said := ""; ; time.Sleep(time.Millisecond) { //house:allow time.Sleep: polls a file in a process of its own
			word, err := os.ReadFile(filepath.Join(dir, "do"))
			if err != nil || string(word) == said {
				continue
			}
			said = string(word)
			if err := newcomers[said](dir); err != nil {
				said = err.Error()
			}
			_ = os.WriteFile(filepath.Join(dir, "done"), []byte(said), 0o600) // the test looks for it
		}
	}()
	return lockFile(filepath.Join(dir, "input"), unix.LOCK_SH)
}

var newcomers = map[string]func(dir string) error{
	"lock":   func(dir string) error { return unix.Flock(int(kept[0].Fd()), unix.LOCK_EX) },
	"open":   func(dir string) error { return lockFile(filepath.Join(dir, "other"), unix.LOCK_EX) },
	"device": func(dir string) error { return openNode("/dev/kmsg", 1, 11) },
	"lease":  func(dir string) error { return lease(filepath.Join(dir, "leased"), unix.F_WRLCK) },
	"map": func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "third"))
		if err != nil {
			return err
		}
		_, err = unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_SHARED)
		return errors.Join(err, f.Close())
	},
	"child": func(dir string) error {
		cmd := exec.Command("sleep", "1000")
		cmd.ExtraFiles = kept[len(kept)-1:]
		return cmd.Start()
	},
}

func lease(path string, how int) error {
	mode := os.O_RDWR | os.O_CREATE
	if how == unix.F_RDLCK {
		mode = os.O_RDONLY
	}
	f, err := os.OpenFile(path, mode, 0o600)
	if err != nil {
		return err
	}
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, how)
	return errors.Join(err, keep(f))
}

func lockFile(path string, how int) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(unix.Flock(int(f.Fd()), how), keep(f))
}
