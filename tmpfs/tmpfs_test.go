package tmpfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// mounted is a tmpfs of the test's own: its path, and what sends it.
func mounted(t testing.TB, o Options) (string, *Source) {
	t.Helper()
	testenv.NeedRoot(t)
	root, err := detached("/tmp", o.exact())
	if err != nil {
		t.Fatal(err)
	}
	s := newSource("/dev/shm", o, root)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return fmt.Sprintf("/proc/self/fd/%d", root.Fd()), s
}

// wire takes frames to the target at once, as a lane does.
type wire struct {
	take   func([]byte) error
	frames int
	bytes  int
}

func (w *wire) WriteFrame(frame []byte) error {
	w.frames, w.bytes = w.frames+1, w.bytes+len(frame)
	if len(frame) > MaxFrame {
		return errors.New("frame too long")
	}
	return w.take(bytes.Clone(frame))
}

// lane leads to the target.
func lane(target *Target) Sink { return &wire{take: target.Pages} }

func target(t testing.TB, o Options) *Target {
	t.Helper()
	target, err := New("/tmp", o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.Close(); err != nil {
			t.Error(err)
		}
	})
	return target
}

func (t *Target) path() string { return fmt.Sprintf("/proc/self/fd/%d", t.root.Fd()) }

func send(t testing.TB, s *Source, out Sink) Stats {
	t.Helper()
	stats, err := s.Send(context.Background(), out)
	if err != nil {
		t.Fatal(err)
	}
	return stats
}

// arrive is all that happens at the freeze and after it.
func arrive(t testing.TB, s *Source, to *Target, out Sink) Stats {
	t.Helper()
	if err := s.Note(context.Background()); err != nil {
		t.Fatal(err)
	}
	stats := send(t, s, out)
	if err := s.Names(&wire{take: to.Names}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := to.Finish(); err != nil {
			t.Fatal(err)
		}
	}
	return stats
}

var defaults = Options{Default, Default}

func TestEverythingArrivesAsItWas(t *testing.T) {
	dir, s := mounted(t, defaults)
	oddities(t, dir)
	to := target(t, s.Options)
	out := lane(to)
	send(t, s, out)
	arrive(t, s, to, out)
	same(t, tree(t, to.path()), tree(t, dir))
}

func TestASparseFileOfTerabytesCostsItsDataOnly(t *testing.T) {
	dir, s := mounted(t, defaults)
	f, err := os.Create(dir + "/sparse")
	must(t, err)
	_, err = f.WriteAt([]byte("far out"), 1<<42)
	must(t, err, f.Close())
	to := target(t, s.Options)
	if stats := arrive(t, s, to, lane(to)); stats.Changed > 2*PageSize {
		t.Errorf("%d bytes were sent", stats.Changed)
	}
	same(t, tree(t, to.path()), tree(t, dir))
}

func TestOnlyChangedPagesCrossAgain(t *testing.T) {
	dir, s := mounted(t, defaults)
	const pages = 4*chunkPages + 3
	must(t, os.WriteFile(dir+"/f", pattern(pages*PageSize, 1), 0o600))
	to := target(t, s.Options)
	out := lane(to)
	if stats := send(t, s, out); stats.Changed < pages*PageSize || stats.Looked != pages*PageSize {
		t.Errorf("the first round: %+v", stats)
	}
	if stats := send(t, s, out); stats.Changed != 0 || stats.Looked != pages*PageSize {
		t.Errorf("nothing has changed, and %+v", stats)
	}
	f, err := os.OpenFile(dir+"/f", os.O_RDWR, 0)
	must(t, err)
	mem, err := unix.Mmap(int(f.Fd()), 0, pages*PageSize, unix.PROT_WRITE, unix.MAP_SHARED)
	must(t, err)
	send(t, s, out)
	for _, page := range []int{0, 5, 6, chunkPages, pages - 1} {
		mem[page*PageSize+9]++ // no time of the file tells
	}
	must(t, os.Rename(dir+"/f", dir+"/g"), os.Link(dir+"/g", dir+"/h"))
	if stats := arrive(t, s, to, out); stats.Changed > 5*(PageSize+runHeader) || stats.Changed < 5*PageSize {
		t.Errorf("five pages have changed, and %+v", stats)
	}
	same(t, tree(t, to.path()), tree(t, dir))
	must(t, unix.Munmap(mem), f.Close())
}

// TestWhatComesAndGoesBetweenRoundsLeavesNothingBehind changes everything that there
// is, again and again, and compares at the end.
func TestWhatComesAndGoesBetweenRoundsLeavesNothingBehind(t *testing.T) {
	dir, s := mounted(t, defaults)
	oddities(t, dir)
	to := target(t, s.Options)
	out := lane(to)
	send(t, s, out)
	must(t, os.Remove(dir+"/fifo"), os.WriteFile(dir+"/fifo", pattern(9000, 2), 0o600), // another kind, the same name
		os.Remove(dir+"/plain"), os.Mkdir(dir+"/plain", 0o700), os.WriteFile(dir+"/plain/deep", pattern(5000, 4), 0o600),
		os.Truncate(dir+"/large", PageSize+1), os.RemoveAll(dir+"/dir"))
	send(t, s, out)
	must(t, os.Truncate(dir+"/large", 3*chunkSize), os.Rename(dir+"/plain", dir+"/moved"), os.Remove(dir+"/fifo"))
	staged, err := os.ReadDir(to.path() + "/" + to.where)
	must(t, err)
	arrive(t, s, to, out)
	same(t, tree(t, to.path()), tree(t, dir))
	var before, after unix.Statfs_t
	must(t, unix.Statfs(dir, &before), unix.Statfs(to.path(), &after))
	if after.Files-after.Ffree != before.Files-before.Ffree || after.Blocks-after.Bfree > before.Blocks-before.Bfree {
		t.Errorf("%d files, %d pages in use, on the source %d and %d; staged were %v",
			after.Files-after.Ffree, after.Blocks-after.Bfree, before.Files-before.Ffree, before.Blocks-before.Bfree, staged)
	}
}

func TestRoundsGoOnWhileFilesChangeUnderThem(t *testing.T) {
	dir, s := mounted(t, defaults)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
			}
			name := fmt.Sprint(dir, "/d", i%3)
			_ = os.Mkdir(name, 0o700)
			_ = os.WriteFile(name+"/f", pattern(i%4*chunkSize/3, byte(i)), 0o600)
			_ = os.Truncate(name+"/f", int64(i%7)*1000)
			_ = os.Rename(name+"/f", fmt.Sprint(dir, "/f", i%5))
			_ = os.Symlink("/etc/passwd", name+"/f")
			if i%4 == 0 {
				_ = os.RemoveAll(name)
				_ = unix.Mkfifo(name, 0o600)
			} else if i%4 == 1 {
				_ = os.Remove(name)
			}
		}
	}()
	to := target(t, s.Options)
	out := lane(to)
	for range 40 {
		send(t, s, out)
	}
	close(stop)
	<-done
	arrive(t, s, to, out)
	same(t, tree(t, to.path()), tree(t, dir))
}

func TestLimitsOfTheMountArrive(t *testing.T) {
	dir, s := mounted(t, Options{Size: 1 << 20, Inodes: 20})
	must(t, os.WriteFile(dir+"/f", pattern(1<<20, 1), 0o600))
	for i := range 18 { // the root and f are the others
		must(t, os.WriteFile(fmt.Sprint(dir, "/", i), nil, 0o600))
	}
	to := target(t, s.Options)
	arrive(t, s, to, lane(to))
	if err := os.WriteFile(to.path()+"/one more", nil, 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("one file more than allowed: %v", err)
	}
	must(t, os.Remove(to.path()+"/17"))
	if err := os.WriteFile(to.path()+"/17", []byte{1}, 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("one page more than allowed: %v", err)
	}
	if got, err := os.ReadFile(to.path() + "/f"); err != nil || !bytes.Equal(got, pattern(1<<20, 1)) {
		t.Errorf("the full file arrived as %d bytes (%v)", len(got), err)
	}
}

func TestWhatDoesNotFitIsAnErrorThatSaysSo(t *testing.T) {
	dir, s := mounted(t, defaults)
	must(t, os.WriteFile(dir+"/f", pattern(1<<20, 1), 0o600))
	small := target(t, Options{Size: 64 << 10, Inodes: Default})
	if _, err := s.Send(context.Background(), lane(small)); !errors.Is(err, unix.ENOSPC) {
		t.Errorf("got %v", err)
	}
	tight := target(t, Options{Size: 768 << 10, Inodes: Default})
	other := newSource(s.Target, defaults, reopen(t, s.root))
	out := lane(tight)
	must(t, other.Note(context.Background()))
	send(t, other, out)
	must(t, other.Names(&wire{take: tight.Names}))
	if err := tight.Finish(); err == nil || !strings.Contains(err.Error(), "does not fit") {
		t.Errorf("got %v", err)
	}
	must(t, other.Close())
}

func reopen(t testing.TB, f *os.File) *os.File {
	t.Helper()
	again, err := openAt(f, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	must(t, err)
	return again
}

func TestNothingIsFollowedOutOfTheMount(t *testing.T) {
	dir, s := mounted(t, defaults)
	outside := t.TempDir()
	must(t, os.WriteFile(outside+"/secret", []byte("secret"), 0o600), os.Symlink(outside, dir+"/out"), os.Symlink(outside+"/secret", dir+"/file"))
	to := target(t, s.Options)
	if stats := arrive(t, s, to, lane(to)); stats.Looked != 0 {
		t.Errorf("something was read: %+v", stats)
	}
	same(t, tree(t, to.path()), tree(t, dir))
}

func TestABrokenWireEndsARound(t *testing.T) {
	dir, s := mounted(t, defaults)
	for i := range 5 {
		must(t, os.WriteFile(fmt.Sprint(dir, "/", i), pattern(2*chunkSize, byte(i)), 0o600))
	}
	cut := errors.New("cut")
	if _, err := s.Send(context.Background(), &wire{take: func([]byte) error { return cut }}); !errors.Is(err, cut) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(cut)
	if _, err := s.Send(ctx, &wire{take: func([]byte) error { return nil }}); !errors.Is(err, cut) {
		t.Errorf("got %v", err)
	}
}

func TestOptionsAreReadFromMountinfo(t *testing.T) {
	for text, want := range map[string]Options{
		"rw,inode64":                               {Default, Default},
		"rw,size=64k,nr_inodes=10,inode64":         {64 << 10, 10},
		"rw,size=0k,nr_inodes=0,uid=5,mode=755":    {0, 0},
		"rw,size=8388608k,nr_inodes=4096k,inode32": {8 << 30, 4 << 20},
	} {
		if got, err := ParseOptions(text); err != nil || got != want {
			t.Errorf("%q gives %+v (%v)", text, got, err)
		}
	}
	for _, text := range []string{"size=", "size=-5k", "nr_inodes=99999999999999999999", "size=5m"} {
		if got, err := ParseOptions(text); err == nil {
			t.Errorf("%q gives %+v", text, got)
		}
	}
	if _, err := New("/tmp", Options{-2, 0}); !errors.Is(err, ErrFormat) {
		t.Errorf("got %v", err)
	}
}

// TestTheMountOfAnotherNamespaceIsFound looks at a mount that only a child has.
func TestTheMountOfAnotherNamespaceIsFound(t *testing.T) {
	pid := inNamespace(t, `mount -t tmpfs -o size=1m none /mnt && echo there > /mnt/f && mkdir /mnt/sub && mount -t tmpfs none /mnt/sub && echo hidden > /mnt/sub/g`)
	id, options := mountAt(t, pid, "/mnt")
	s, err := Open(pid, "/mnt", id, options)
	must(t, err)
	if s.Options.Size != 1<<20 {
		t.Errorf("options %+v", s.Options)
	}
	to := target(t, s.Options)
	arrive(t, s, to, lane(to))
	if data, err := os.ReadFile(to.path() + "/f"); err != nil || string(data) != "there\n" {
		t.Errorf("got %q (%v)", data, err)
	}
	if inside, err := os.ReadDir(to.path() + "/sub"); err != nil || len(inside) > 0 {
		t.Errorf("what is mounted on it came along: %v (%v)", inside, err)
	}
	must(t, s.Close())
	if _, err := Open(pid, "/mnt", "1", options); err == nil {
		t.Error("another mount passes for it")
	}
	if _, err := Open(pid, "/mnt", id, "size=x"); err == nil {
		t.Error("strange options pass")
	}
	if _, err := Open(1<<30, "/mnt", id, options); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("no process: %v", err)
	}
}
