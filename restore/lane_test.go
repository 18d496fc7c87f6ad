package restore

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/stream"
)

// lane is the bytes of one lane, written piece by piece.
type lane struct {
	t   testing.TB
	buf bytes.Buffer
}

func newLane(t testing.TB) *lane { return &lane{t: t} }

func (l *lane) stream(kind uint16, frames ...[]byte) *lane {
	l.t.Helper()
	w := stream.NewWriter(&l.buf, kind)
	for _, f := range frames {
		if err := w.WriteFrame(f); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		l.t.Fatal(err)
	}
	return l
}

func (l *lane) file(r stream.FileRange, data string) *lane {
	l.t.Helper()
	head, err := json.Marshal(r)
	if err != nil {
		l.t.Fatal(err)
	}
	if data == "" {
		return l.stream(stream.KindFile, head)
	}
	return l.stream(stream.KindFile, head, []byte(data))
}

func (l *lane) images(files map[string][]byte) *lane {
	l.t.Helper()
	dir := l.t.TempDir()
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			l.t.Fatal(err)
		}
	}
	w := stream.NewWriter(&l.buf, stream.KindImages)
	if err := image.Pack(dir, w, nil); err != nil {
		l.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		l.t.Fatal(err)
	}
	return l
}

func (l *lane) end() *lane { return l.stream(stream.KindEnd) }

func (l *lane) reader() io.Reader { return bytes.NewReader(l.buf.Bytes()) }

// own names the test's own user, so that it need not be root.
func own(name string, offset int64) stream.FileRange {
	return stream.FileRange{Name: name, Offset: offset, Mode: 0o640, UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}
}

func page(fill byte) []byte { return bytes.Repeat([]byte{fill}, stream.PageSize) }

// digests is a stream that says that every lazy page is zero, but the one named last.
func (l *lane) digests(pages int64, other byte) *lane {
	var b stream.DigestBatch
	for _, r := range lazyRegions(l.t) {
		for i := range min(r.Pages, pages) {
			data := page(0)
			if i == pages-1 {
				data = page(other)
			}
			b.Add(1, r.Addr+uint64(i)*stream.PageSize, stream.PageDigest(5, data))
		}
		pages -= min(r.Pages, pages)
	}
	return l.stream(stream.KindDigests, stream.DigestHead(5), b.Bytes())
}
