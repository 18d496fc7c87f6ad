package image

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/stream"
)

const roomy = 1 << 30

// fill makes a directory with these files.
func fill(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// contents reads all files of a directory.
func contents(t testing.TB, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string]string)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(data)
	}
	return files
}

func packed(t testing.TB, dir string) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := Pack(dir, &b, nil); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sample(t testing.TB) (files map[string]string, archive []byte) {
	t.Helper()
	files = map[string]string{
		"empty.img": "", "one.img": "x", "block.img": strings.Repeat("b", tarBlock),
		"zeros.img": string(make([]byte, 3*copyChunk)), "stats-dump": "s",
		strings.Repeat("n", stream.MaxName): "a long name",
	}
	return files, packed(t, fill(t, files))
}

// tarOf makes an archive of one entry.
func tarOf(t testing.TB, h tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := errors.Join(w.WriteHeader(&h), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackBringsBackWhatWasPacked(t *testing.T) {
	files, archive := sample(t)
	dir := t.TempDir()
	if err := Unpack(iotest.HalfReader(bytes.NewReader(archive)), dir, roomy); err != nil {
		t.Fatal(err)
	}
	got := contents(t, dir)
	for name, text := range files {
		if got[name] != text {
			t.Errorf("%s differs", name)
		}
	}
	if len(got) != len(files) || !bytes.Equal(packed(t, dir), archive) {
		t.Error("packed again, it differs")
	}
}

func TestAnArchiveCutAnywhereIsRefusedAndLeavesNothing(t *testing.T) {
	archive := packed(t, fill(t, map[string]string{"a.img": "a", "b.img": string(make([]byte, 2*tarBlock)), "c.img": ""}))
	for cut := 0; cut < len(archive); cut += tarBlock / 4 {
		dir := t.TempDir()
		if err := Unpack(bytes.NewReader(archive[:cut]), dir, roomy); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, ErrArchive) {
			t.Fatalf("cut at %d of %d: got %v", cut, len(archive), err)
		}
		if left := contents(t, dir); len(left) != 0 {
			t.Fatalf("cut at %d: %d files are left", cut, len(left))
		}
	}
}

func TestTheReaderIsReadToItsEnd(t *testing.T) {
	_, archive := sample(t)
	bad := errors.New("digest is wrong")
	if err := Unpack(io.MultiReader(bytes.NewReader(archive), iotest.ErrReader(bad)), t.TempDir(), roomy); !errors.Is(err, bad) {
		t.Errorf("an error at the end: got %v", err)
	}
	if err := Unpack(bytes.NewReader(append(archive, 0)), t.TempDir(), roomy); !errors.Is(err, ErrArchive) {
		t.Errorf("data behind the end: got %v", err)
	}
}

func TestHostileArchivesAreRefused(t *testing.T) {
	for _, h := range []tar.Header{
		{Name: "../up", Typeflag: tar.TypeReg}, {Name: "/root", Typeflag: tar.TypeReg},
		{Name: "a/b", Typeflag: tar.TypeReg}, {Name: "..", Typeflag: tar.TypeReg},
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"},
		{Name: "hard", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"},
		{Name: "dir", Typeflag: tar.TypeDir}, {Name: "fifo", Typeflag: tar.TypeFifo},
		{Name: strings.Repeat("n", stream.MaxName+1), Typeflag: tar.TypeReg},
	} {
		dir := t.TempDir()
		if err := Unpack(bytes.NewReader(tarOf(t, h)), dir, roomy); !errors.Is(err, ErrArchive) {
			t.Errorf("%s: got %v", h.Name, err)
		}
		if left := contents(t, dir); len(left) != 0 {
			t.Errorf("%s: something was made", h.Name)
		}
	}
}

func TestTheLimitHoldsForAllFilesTogether(t *testing.T) {
	archive := packed(t, fill(t, map[string]string{"a": "12345", "b": "12345"}))
	if err := Unpack(bytes.NewReader(archive), t.TempDir(), 10); err != nil {
		t.Errorf("ten bytes with a limit of ten: %v", err)
	}
	if err := Unpack(bytes.NewReader(archive), t.TempDir(), 9); !errors.Is(err, ErrSize) {
		t.Errorf("ten bytes with a limit of nine: got %v", err)
	}
}

func TestPackRefusesMoreFilesThanUnpackTakes(t *testing.T) {
	dir := fill(t, map[string]string{"a": "", "b": "", "c": ""})
	if err := pack(dir, io.Discard, nil, 3); err != nil {
		t.Error(err)
	}
	if err := pack(dir, io.Discard, nil, 2); err == nil {
		t.Error("three files were packed, and at most two may be")
	}
}

func TestUnpackReplacesNoFile(t *testing.T) {
	dir := fill(t, map[string]string{"a": "old"})
	archive := packed(t, fill(t, map[string]string{"a": "new"}))
	if err := Unpack(bytes.NewReader(archive), dir, roomy); !errors.Is(err, os.ErrExist) || contents(t, dir)["a"] != "old" {
		t.Errorf("got %v, %v", err, contents(t, dir))
	}
}

func TestPackRefusesWhatIsNoRegularFile(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Pack(dir, io.Discard, nil); err == nil {
		t.Error("a pipe was packed")
	}
}

func TestPackReportsAFailingWriter(t *testing.T) {
	dir := fill(t, map[string]string{"a": strings.Repeat("x", 3*copyChunk)})
	for _, n := range []int64{0, tarBlock, copyChunk, 3 * copyChunk} {
		if err := Pack(dir, &cutAfter{left: n}, nil); !errors.Is(err, errCut) {
			t.Errorf("cut after %d bytes: got %v", n, err)
		}
	}
}

var errCut = errors.New("cut")

// cutAfter fails once so many bytes were written.
type cutAfter struct{ left int64 }

func (c *cutAfter) Write(p []byte) (int, error) {
	if c.left -= int64(len(p)); c.left < 0 {
		return 0, errCut
	}
	return len(p), nil
}

func FuzzUnpack(f *testing.F) {
	f.Add(packed(f, fill(f, map[string]string{"a": "", "b": "text"})))
	f.Add(tarOf(f, tar.Header{Name: "../up", Typeflag: tar.TypeReg}))
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		err := Unpack(bytes.NewReader(data), dir, 1<<20)
		left := contents(t, dir)
		if err != nil && len(left) != 0 {
			t.Errorf("%d files are left after %v", len(left), err)
		}
	})
}

// An agent of another version must be able to unpack what this one packs.
func TestTheFormatOfAnArchiveIsThatOfTheGoldenFile(t *testing.T) {
	want, err := os.ReadFile("testdata/format-1/images.tar")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(packed(t, goldenDir), want) {
		t.Error("the format has changed")
	}
}
