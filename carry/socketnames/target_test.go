package socketnames

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

func bind(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// leadsTo tells whether the name leads to the socket: a connection to the name arrives there.
func leadsTo(t *testing.T, path string, l net.Listener) bool {
	t.Helper()
	conn, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	defer conn.Close()
	fd, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer fd.Close()
	ready := []unix.PollFd{{Fd: int32(fd.Fd()), Events: unix.POLLIN}}
	n, err := unix.Poll(ready, 0)
	if err != nil {
		t.Fatal(err)
	}
	if n == 1 {
		if conn, err := l.Accept(); err == nil {
			_ = conn.Close()
		}
	}
	return n == 1
}

func TestTheNameOfASocketIsThereForTheCopyThatRuns(t *testing.T) {
	// The job sees dir as /mnt, by way of a link.
	dir, root := t.TempDir(), t.TempDir()
	if err := errors.Join(os.Symlink("/mnt", filepath.Join(root, "link")), os.Mkdir(filepath.Join(root, "mnt"), 0o755)); err != nil {
		t.Fatal(err)
	}
	r := &restorer{env: carry.Env{Mounts: map[string]string{"/mnt": dir}, Root: root, Work: t.TempDir()}}
	path := filepath.Join(dir, "socket")
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	want := func(when string, l net.Listener, files int) {
		t.Helper()
		if !leadsTo(t, path, l) {
			t.Errorf("%s: the name does not lead to the socket", when)
		}
		if list, err := os.ReadDir(dir); err != nil || len(list) != files {
			t.Errorf("%s: %v in the directory, %v", when, list, err)
		}
	}
	source := bind(t, path)
	for _, leave := range []string{".socket.migrate-was", ".socket.migrate-own"} { // of a node that went down
		bind(t, filepath.Join(dir, leave))
	}
	keep := func() socketNames {
		t.Helper()
		kept, err := r.save([]string{"/link/socket", "/link/file", "/link/none", "/tmp/socket", "/none/socket", "/link/socket"})
		if err != nil || len(kept) != 1 {
			t.Fatalf("kept %d names, %v", len(kept), err)
		}
		return kept
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(keep().undo())
	want("given up before CRIU", source, 2)
	kept := keep()
	bind(t, path)
	must(kept.undo())
	want("given up before it was parked", source, 2)
	kept = keep()
	bind(t, path)
	must(kept.showOriginals())
	want("parked", source, 3)
	must(kept.undo())
	want("given up after that", source, 2)
	must(r.Recover())
	want("killed after that", source, 2)
	keep()
	must(keep().undo())
	want("a node went down, and the next tries", source, 2)
	keep()
	must(r.Recover())
	want("killed before CRIU", source, 2)
	keep()
	bind(t, path)
	for range 2 {
		must(r.Recover())
		want("killed before it was parked", source, 2)
	}
	kept = keep()
	bind(t, path)
	must(kept.showOriginals())
	must(r.Recover())
	want("killed when it was parked", source, 2)
	must(NewRestorer(carry.Env{Work: t.TempDir()}).Recover())
	kept = keep()
	must(kept.showOriginals()) // CRIU made none
	must(kept.install())
	want("nobody else wants the name", source, 2)
	kept = keep()
	target := bind(t, path)
	must(errors.Join(kept.showOriginals(), kept.install()))
	want("runs here", target, 2)
}

func TestLinksThatLeadInACircleAreNotFollowed(t *testing.T) {
	root := t.TempDir()
	if err := os.Symlink("/circle", filepath.Join(root, "circle")); err != nil {
		t.Fatal(err)
	}
	r := &restorer{env: carry.Env{Root: root, Work: t.TempDir()}}
	if _, err := r.save([]string{"/circle/socket"}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v", err)
	}
	if _, err := r.resolveDir("/dev/log"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("/dev is the job's own, but %v", err)
	}
}

// What the job's user may not rename stays where it is, whatever leads there.
func TestOnlyNamesThatTheJobsUserMayChangeAreTouched(t *testing.T) {
	testenv.NeedRoot(t)
	dir, err := os.MkdirTemp("/var/tmp", "migrate-names-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	roots, theirs := filepath.Join(dir, "root"), filepath.Join(dir, "alice")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(roots, 0o755), os.Mkdir(theirs, 0o755), os.Chown(theirs, 12345, 12345),
		os.Symlink(roots, filepath.Join(theirs, "link")), unix.Mknod(filepath.Join(roots, "s"), unix.S_IFSOCK|0o777, 0)); err != nil {
		t.Fatal(err)
	}
	r := &restorer{env: carry.Env{Work: t.TempDir(), Root: "/", User: osthread.User{UID: 12345, GID: 12345}}}
	for _, path := range []string{roots + "/s", theirs + "/link/s"} {
		if kept, err := r.save([]string{path}); !errors.Is(err, os.ErrPermission) || len(kept) > 0 {
			t.Errorf("%s: %v", path, err)
		}
	}
	if left, err := os.ReadDir(roots); err != nil || len(left) != 1 || left[0].Name() != "s" {
		t.Errorf("in root's directory are %v (%v)", left, err)
	}
}
