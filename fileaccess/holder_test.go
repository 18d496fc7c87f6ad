package fileaccess

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
)

const holderArg = "migrate-test-holder"

var alice = osthread.User{UID: 12345, GID: 12345, Groups: []uint32{77}}

func TestMain(m *testing.M) {
	if len(os.Args) < 2 || os.Args[1] != holderArg {
		os.Exit(m.Run())
	}
	if err := hold(os.Args[2:]); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the test ends
}

// hold opens things as root, as CRIU does, and then becomes the user.
func hold(steps []string) error {
	if len(steps) == 0 { // it is the user already
		return nil
	}
	runtime.LockOSThread()
	for _, s := range steps {
		verb, path, _ := strings.Cut(s, " ")
		if err := act(verb, path); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return errors.Join(syscall.Setgid(int(alice.GID)), syscall.Setuid(int(alice.UID)))
}

var flags = map[string]int{"read": unix.O_RDONLY, "write": unix.O_WRONLY, "both": unix.O_RDWR, "path": unix.O_PATH, "link": unix.O_PATH | unix.O_NOFOLLOW}

func act(verb, path string) error {
	switch verb {
	case "unmount": // what is held of it stays
		return unix.Unmount(path, unix.MNT_DETACH)
	case "enter":
		return os.Chdir(path)
	case "delete":
		return os.Remove(path)
	case "mount":
		return errors.Join(unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""), unix.Mount("none", path, "tmpfs", 0, "mode=755"))
	case "make":
		return os.WriteFile(path, []byte("made"), 0o600)
	case "map", "share":
		return mapFile(path, verb == "share")
	case "nameless":
		_, err := unix.MemfdCreate("secret", 0)
		return errors.Join(err, unix.Pipe(make([]int, 2)))
	}
	_, err := unix.Open(path, flags[verb], 0)
	return err
}

func mapFile(path string, shared bool) error {
	kind, access := unix.MAP_PRIVATE, unix.O_RDONLY
	if shared {
		kind, access = unix.MAP_SHARED, unix.O_RDWR
	}
	fd, err := unix.Open(path, access, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	_, err = unix.Mmap(fd, 0, 4, unix.PROT_READ, kind)
	return err
}

// holder is a job of one task in a mount namespace of its own. It ends with the test, whose
// threads do not live as long.
func holder(t *testing.T, program string, as *syscall.Credential, steps ...string) Job {
	t.Helper()
	cmd := exec.Command(program, append([]string{holderArg}, steps...)...)
	cmd.Dir, cmd.Env = "/", append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Credential: as}
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = errors.Join(in.Close(), cmd.Wait()) })
	if line, _ := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("the holder says %q", line)
	}
	return Job{Init: cmd.Process.Pid, Pids: []int{cmd.Process.Pid}, User: alice}
}
