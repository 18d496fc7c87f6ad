package restore

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/restore/pagestore"
	"github.com/migrate-hpc/migrate/stream"
	"github.com/migrate-hpc/migrate/testenv"
)

// FuzzLane has a source send any two frames as any kind of stream. Order and framing are right, so
// only their content can be wrong.
func FuzzLane(f *testing.F) {
	in := func(v any) []byte {
		data, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		return data
	}
	f.Add(stream.KindFile, in(own("stdout", 0)), []byte("x"))
	f.Add(stream.KindFile, in(own("../../stdout", 0)), []byte("x"))
	f.Add(stream.KindFile, in(own("stdout", 1<<62)), []byte("x"))
	f.Add(stream.KindBlocks, in(image.BlocksHead{Name: "pages-1.img", Size: 4}), []byte("\x04\x00\x00\x00\x00\x00\x00\x00data"))
	f.Add(stream.KindBlocks, in(image.BlocksHead{Name: "../pages-1.img", Size: 1 << 20}), []byte{})
	f.Add(stream.KindPages, stream.AppendRun(nil, 1, 0x1000, page(1)), stream.AppendCopy(nil, 1, 0x200000, 1, stream.Place{VPID: 1, Addr: 0x1000}))
	f.Add(stream.KindPages, stream.AppendZero(nil, 1, 0x1000, 1<<32-1), stream.AppendDrop(nil, 1, 0, 1<<31))
	f.Add(stream.KindDigests, stream.DigestHead(1), make([]byte, 32))
	f.Add(stream.KindReady, []byte{}, []byte{})
	f.Add(stream.KindImages, []byte("../x"), make([]byte, 1024))
	f.Add(uint16(99), []byte("x"), []byte("y"))
	f.Fuzz(func(t *testing.T, kind uint16, first, second []byte) {
		if kind == stream.KindTmpfsNames || kind == stream.KindTmpfsPages {
			return // they mount; package tmpfs has targets of its own
		}
		frames := slices.DeleteFunc([][]byte{first, second}, func(f []byte) bool { return len(f) == 0 })
		above := t.TempDir()
		store, images, output := filepath.Join(above, "store"), filepath.Join(above, "images"), filepath.Join(above, "io")
		for _, dir := range []string{store, images, output} {
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		s, err := pagestore.Create(store)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		_ = NewReceiver(images, s, output).Receive(testenv.Bounded(t), []io.Reader{newLane(t).stream(kind, frames...).end().reader()})
		if entries, err := os.ReadDir(above); err != nil || len(entries) != 3 {
			t.Errorf("beside the directories lie %v, %v", entries, err)
		}
		for _, dir := range []string{images, output} {
			entries, err := os.ReadDir(dir)
			if err != nil || slices.ContainsFunc(entries, func(e os.DirEntry) bool { return !e.Type().IsRegular() }) {
				t.Errorf("%v, %v", entries, err)
			}
		}
	})
}
