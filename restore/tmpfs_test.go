package restore

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
	"github.com/migrate-hpc/migrate/tmpfs"
)

// tmpfs adds all of a directory in memory.
func (l *lane) tmpfs(at string) *lane {
	l.t.Helper()
	testenv.NeedRoot(l.t)
	from, err := tmpfs.New(at, tmpfs.Options{Size: tmpfs.Default, Inodes: tmpfs.Default})
	if err != nil {
		l.t.Fatal(err)
	}
	defer from.Close()
	frame := func(e []tmpfs.Entry) []byte {
		data, err := json.Marshal(e)
		if err != nil {
			l.t.Fatal(err)
		}
		return data
	}
	head := headOf(l.t, at)
	w := stream.NewWriter(&l.buf, stream.KindTmpfsPages)
	files := tmpfs.NewFiles()
	if err := w.WriteFrame(head); err != nil {
		l.t.Fatal(err)
	}
	f, err := os.CreateTemp(l.t.TempDir(), "")
	if err != nil {
		l.t.Fatal(err)
	}
	if _, err := f.WriteString("in memory"); err != nil {
		l.t.Fatal(err)
	}
	if _, err := files.Send(context.Background(), w, func(look func(*os.File) error) error { return look(f) }); err != nil {
		l.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		l.t.Fatal(err)
	}
	return l.stream(stream.KindTmpfsNames, head, frame([]tmpfs.Entry{
		{Mode: unix.S_IFDIR | 0o1777}, {Path: []byte("f"), File: 1, Mode: unix.S_IFREG | 0o640, Size: 9},
	}))
}

func headOf(t testing.TB, at string) []byte {
	t.Helper()
	head, err := json.Marshal(stream.TmpfsHead{Mount: at, Options: tmpfs.Options{Size: tmpfs.Default, Inodes: tmpfs.Default}})
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func TestPrivateFileSystemsAreThereAndAttachedNowhere(t *testing.T) {
	in := incoming(t)
	l := whole(newLane(t)).tmpfs("/tmp").tmpfs("/dev/shm").end()
	if err := in.Receive(testenv.Bounded(t), []io.Reader{l.reader()}); err != nil {
		t.Fatal(err)
	}
	mounts := in.Mounts()
	if at := slices.Sorted(maps.Keys(mounts)); !slices.Equal(at, []string{"/dev/shm", "/tmp"}) {
		t.Fatalf("got %v", at)
	}
	for _, m := range mounts {
		fd, err := unix.Openat(int(m.Fd()), "f", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		f := os.NewFile(uintptr(fd), "f")
		data, err := io.ReadAll(f)
		if st, statErr := f.Stat(); statErr != nil || st.Mode() != 0o640 || string(data) != "in memory" || err != nil {
			t.Errorf("%q %v (%v, %v)", data, st.Mode(), err, statErr)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		if err := in.CloseMounts(); err != nil {
			t.Error(err)
		}
	}
}

func TestHostilePrivateFileSystemsAreRefused(t *testing.T) {
	for name, l := range map[string]*lane{
		"another mount": whole(newLane(t)).stream(stream.KindTmpfsNames, headOf(t, "/etc")),
		"no head":       whole(newLane(t)).stream(stream.KindTmpfsPages),
		"strange head":  whole(newLane(t)).stream(stream.KindTmpfsPages, []byte("{")),
		"no names":      whole(newLane(t)).stream(stream.KindTmpfsPages, headOf(t, "/tmp")),
		"strange names": whole(newLane(t)).stream(stream.KindTmpfsNames, headOf(t, "/tmp"), []byte(`[{"path":"Li4=","mode":16384}]`)),
		"strange pages": whole(newLane(t)).stream(stream.KindTmpfsPages, headOf(t, "/tmp"), []byte("0123")),
	} {
		in := incoming(t)
		if err := in.Receive(testenv.Bounded(t), []io.Reader{l.end().reader()}); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if err := in.CloseMounts(); err != nil {
			t.Error(err)
		}
	}
}
