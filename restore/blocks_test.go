package restore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
	"github.com/migrate-hpc/migrate/tmpfs"
)

func refs(n int) *int { return &n }

// blocks adds an image of which the target has what find says.
func (l *lane) blocks(name string, data []byte, find image.Finder) *lane {
	l.t.Helper()
	dir := l.t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		l.t.Fatal(err)
	}
	w := stream.NewWriter(&l.buf, stream.KindBlocks)
	if err := errors.Join(image.PackBlocks(dir, name, image.Owner{}, find, refs(image.MaxRefs), w), w.Close()); err != nil {
		l.t.Fatal(err)
	}
	return l
}

// shared puts pages 1, 2 and 3 into shared memory.
const shared = stream.FirstShared + 5

func sharedPages(page []byte, _ stream.Place) (stream.Place, bool) {
	return stream.Place{VPID: shared, Addr: uint64(page[0]) * stream.PageSize}, page[0] <= 3
}

func whole(l *lane) *lane {
	for _, r := range lazyRegions(l.t) {
		l.stream(stream.KindPages, stream.AppendZero(nil, 1, r.Addr, r.Pages))
	}
	return l.images(map[string][]byte{"pagemap-1.img": pagemap(l.t)})
}

func TestImagesArePutTogetherFromPagesThatCameBefore(t *testing.T) {
	in := incoming(t)
	data := bytes.Join([][]byte{page(9), page(2), page(3), page(2), []byte("tail")}, nil)
	first := whole(newLane(t)).blocks("pages-4.img", data, sharedPages).end()
	// The page that is referred to may come later, on another lane.
	second := newLane(t).stream(stream.KindPages, stream.AppendRun(nil, shared, 2*stream.PageSize, append(page(2), page(3)...))).end()
	if err := in.Receive(testenv.Bounded(t), []io.Reader{first.reader(), second.reader()}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(in.Images, "pages-4.img")); err != nil || !bytes.Equal(got, data) {
		t.Errorf("%d bytes arrived (%v)", len(got), err)
	}
}

func TestPagesThatAreMissingOrOthersEndTheTransfer(t *testing.T) {
	for name, c := range map[string]struct {
		has  []byte
		want string
	}{
		"another": {stream.AppendRun(nil, shared, 2*stream.PageSize, page(7)), "not those"},
		"none":    {stream.AppendRun(nil, shared, 8*stream.PageSize, page(2)), pagestore.ErrMissing.Error()},
		"dropped": {stream.AppendDrop(stream.AppendRun(nil, shared, 2*stream.PageSize, page(2)), shared, 0, 1<<31), pagestore.ErrMissing.Error()},
	} {
		l := whole(newLane(t)).stream(stream.KindPages, c.has).blocks("pages-4.img", page(2), sharedPages).end()
		if err := incoming(t).Receive(testenv.Bounded(t), []io.Reader{l.reader()}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestImagesAreBoundedByTheRoomThatThereIs(t *testing.T) {
	testenv.NeedRoot(t)
	const small, large = 1 << 20, 65 << 30
	head, err := json.Marshal(image.BlocksHead{Name: "pages-4.img", Size: large})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		room int64
		lane *lane
		want error
	}{
		"an archive above it": {small, newLane(t).images(map[string][]byte{"pages-4.img": make([]byte, 4*small)}), image.ErrSize},
		"an image above it":   {small, newLane(t).stream(stream.KindBlocks, head), image.ErrSize},
		"within":              {large + small, newLane(t).stream(stream.KindBlocks, head), image.ErrBlocks}, // of which nothing comes
	} {
		fs, err := tmpfs.New("/tmp", tmpfs.Options{Size: c.room, Inodes: tmpfs.Default})
		if err != nil {
			t.Fatal(err)
		}
		in := incoming(t)
		in.Images = fmt.Sprintf("/proc/self/fd/%d", fs.File().Fd())
		if err := in.Receive(testenv.Bounded(t), []io.Reader{c.lane.end().reader()}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if err := fs.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestHostileBlocksAreRefused(t *testing.T) {
	head := func(h image.BlocksHead) []byte {
		data, err := json.Marshal(h)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	frames := func(data []byte) (frames [][]byte) { // of an image that needs no head
		l := newLane(t).blocks("pages-1.img", data, func([]byte, stream.Place) (stream.Place, bool) { return stream.Place{}, false })
		s, err := stream.NewReader(l.reader())
		for err == nil {
			var frame []byte
			if frame, err = s.ReadFrame(); err == nil {
				frames = append(frames, bytes.Clone(frame))
			}
		}
		return frames[1:]
	}
	one := frames(page(9))
	for name, content := range map[string][][]byte{
		"no head":          {},
		"strange head":     {[]byte("{")},
		"a path":           append([][]byte{head(image.BlocksHead{Name: "../core-1.img", Size: stream.PageSize})}, one...),
		"more than it has": append([][]byte{head(image.BlocksHead{Name: "pages-1.img", Size: 2 * stream.PageSize})}, one...),
		"less than it has": append([][]byte{head(image.BlocksHead{Name: "pages-1.img", Size: 1})}, one...),
		"too large":        {head(image.BlocksHead{Name: "pages-1.img", Size: 1 << 60})},
		"there already":    append([][]byte{head(image.BlocksHead{Name: "pagemap-1.img", Size: stream.PageSize})}, one...),
	} {
		l := whole(newLane(t)).stream(stream.KindBlocks, content...).end()
		if err := incoming(t).Receive(testenv.Bounded(t), []io.Reader{l.reader()}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
