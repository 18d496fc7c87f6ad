package checkpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

// piece is one stream of output as it arrives.
type piece struct {
	Name   string
	Offset int64
	Data   string
}

// sent has the source send its output and returns the pieces.
func sent(t *testing.T, s *Source) (pieces []piece, total int64) {
	t.Helper()
	var lane bytes.Buffer
	total, err := s.Output(testenv.Bounded(t), []io.Writer{&lane})
	if err != nil {
		t.Fatal(err)
	}
	for lane.Len() > 0 {
		r, err := stream.NewReader(&lane, stream.KindFile)
		if err != nil {
			t.Fatal(err)
		}
		head, err := r.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		var at stream.FileRange
		if err := json.Unmarshal(head, &at); err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		pieces = append(pieces, piece{at.Name, at.Offset, string(data)})
	}
	return pieces, total
}

func put(t *testing.T, path, text string, flags int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|flags, 0o640)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestOutputIsSentAsFarAsItHasGrown(t *testing.T) {
	dir := t.TempDir()
	out, other := filepath.Join(dir, "stdout"), filepath.Join(dir, "empty")
	s := &Source{IODir: dir, Log: quiet()}
	step := func(what string, want ...piece) {
		t.Helper()
		got, total := sent(t, s)
		var bytes int64
		for _, p := range want {
			bytes += int64(len(p.Data))
		}
		if !reflect.DeepEqual(got, want) || total != bytes {
			t.Errorf("%s: sent %+v (%d bytes), want %+v", what, got, total, want)
		}
	}
	step("nothing yet")
	put(t, out, "one\n", os.O_APPEND)
	put(t, other, "", 0)
	step("the first time", piece{"empty", 0, ""}, piece{"stdout", 0, "one\n"})
	step("unchanged")
	put(t, out, "two\n", os.O_APPEND)
	step("grown", piece{"stdout", 4, "two\n"})
	put(t, out, "new\n", os.O_TRUNC)
	step("cut and written anew", piece{"stdout", 0, "new\n"})
	put(t, out, "", os.O_TRUNC)
	put(t, out, "new\nlonger\n", os.O_TRUNC)
	step("cut and written as before, and more", piece{"stdout", 4, "longer\n"})
	put(t, out, "other\nlonger\n", os.O_TRUNC)
	step("cut and written anew, longer", piece{"stdout", 0, "other\nlonger\n"})
	put(t, out, "OTHER\nlonger\n", os.O_TRUNC)
	step("cut and written anew, as long", piece{"stdout", 0, "OTHER\nlonger\n"})
	put(t, out, "", os.O_TRUNC)
	step("cut", piece{"stdout", 0, ""})
	put(t, out, strings.Repeat("x", 3<<20), os.O_APPEND)
	step("above a frame", piece{"stdout", 0, strings.Repeat("x", 3<<20)})
}

// brokenWriter takes so many bytes.
type brokenWriter struct{ left int }

var errBroken = errors.New("the lane broke")

func (w *brokenWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errBroken
	}
	return len(p), nil
}

func TestABrokenLaneIsToldWithTheFile(t *testing.T) {
	s := &Source{IODir: t.TempDir(), Log: quiet()}
	put(t, filepath.Join(s.IODir, "stdout"), "text", 0)
	_, err := s.Output(testenv.Bounded(t), []io.Writer{&brokenWriter{}})
	if !errors.Is(err, errBroken) || !strings.Contains(err.Error(), "stdout") {
		t.Errorf("got %v", err)
	}
}

func TestOutputEndsWithTheContext(t *testing.T) {
	s := &Source{IODir: t.TempDir(), Log: quiet()}
	put(t, filepath.Join(s.IODir, "stdout"), "text", 0)
	why := errors.New("no time")
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(why)
	if _, err := s.Output(ctx, []io.Writer{&bytes.Buffer{}}); !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestNothingButPlainFilesOfTheJobIsReadAsRoot(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	put(t, secret, "password", 0)
	for name, make := range map[string]func(path string) error{
		"symlink":   func(p string) error { return os.Symlink(secret, p) },
		"hard link": func(p string) error { return os.Link(secret, p) },
		"fifo":      func(p string) error { return unix.Mkfifo(p, 0o600) },
		"directory": func(p string) error { return os.Mkdir(p, 0o700) },
		"socket":    func(p string) error { return unix.Mknod(p, unix.S_IFSOCK|0o600, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			s := &Source{IODir: t.TempDir(), Log: quiet()}
			if err := make(filepath.Join(s.IODir, "stdout")); err != nil {
				testenv.Missing(t, "make a %s: %v", name, err)
			}
			var lane bytes.Buffer
			n, err := s.Output(testenv.Bounded(t), []io.Writer{&lane})
			if err == nil || n > 0 || lane.Len() > 0 || !strings.Contains(err.Error(), "stdout") {
				t.Errorf("sent %d bytes: %v", n, err)
			}
		})
	}
}

func TestEveryLaneIsEnded(t *testing.T) {
	var a, b bytes.Buffer
	if err := endLanes([]io.Writer{&a, &b}); err != nil {
		t.Fatal(err)
	}
	for _, lane := range []*bytes.Buffer{&a, &b} {
		r, err := stream.NewReader(lane, stream.KindEnd)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.ReadFrame(); err != io.EOF || lane.Len() > 0 {
			t.Errorf("%v, %d bytes behind", err, lane.Len())
		}
	}
	if err := endLanes([]io.Writer{&a, &brokenWriter{}}); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}
