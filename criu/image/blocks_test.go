package image

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zeebo/xxh3"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/migrate-hpc/migrate/stream"
)

// collected keeps the frames that are written to it.
type collected [][]byte

func (c *collected) WriteFrame(frame []byte) error {
	*c = append(*c, bytes.Clone(frame))
	return nil
}

func refs(n int) *int { return &n }

// target is what the target has, by content.
type target map[string]stream.Place

func (t target) find(page []byte, _ stream.Place) (stream.Place, bool) {
	p, ok := t[string(page)]
	return p, ok
}

func blockPage(fill byte) []byte { return bytes.Repeat([]byte{fill, fill ^ 0x5a}, stream.PageSize/2) }

// pack packs an image of that name and returns its frames, the head apart.
func packImage(t testing.TB, name string, data []byte, has target) (BlocksHead, [][]byte) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
		t.Fatal(err)
	}
	var out collected
	if err := PackBlocks(dir, name, Owner{}, has.find, refs(MaxRefs), &out); err != nil {
		t.Fatal(err)
	}
	var h BlocksHead
	if err := json.Unmarshal(out[0], &h); err != nil {
		t.Fatal(err)
	}
	return h, out[1:]
}

// unpack puts an image together again and says how many bytes were referred to.
func unpack(t testing.TB, h BlocksHead, frames [][]byte, has target) (data []byte, referred int64) {
	t.Helper()
	places := map[stream.Place]string{}
	for page, at := range has {
		places[at] = page
	}
	at := int64(0)
	for _, frame := range frames {
		if len(frame) > maxBlocks {
			t.Errorf("frame of %d bytes", len(frame))
		}
		var err error
		at, err = EachBlock(frame, at, func(offset int64, p []byte) error {
			if offset != int64(len(data)) {
				t.Errorf("data for %d at %d", offset, len(data))
			}
			data = append(data, p...)
			return nil
		}, func(r Ref) error {
			from := len(data)
			for n := int64(0); n < r.Size; n += stream.PageSize {
				data = append(data, places[stream.Place{VPID: r.From.VPID, Addr: r.From.Addr + uint64(n)}]...)
			}
			referred += r.Size
			if xxh3.Hash128(data[from:]) != r.Sum {
				t.Errorf("the sum of %d bytes at %d is another", r.Size, r.Offset)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if at != h.Size {
		t.Errorf("%d bytes, the head says %d", at, h.Size)
	}
	return data, referred
}

func TestPagesThatTheTargetHasAreLeftOut(t *testing.T) {
	has := target{}
	var data []byte
	for i := range 1200 {
		page := blockPage(byte(i % 200))
		binary.LittleEndian.PutUint32(page, uint32(i))
		if i%300 < 290 { // in runs, of which one is longer than a reference may be
			has[string(page)] = stream.Place{VPID: stream.FirstShared + 3, Addr: uint64(i+5) * stream.PageSize}
		}
		data = append(data, page...)
	}
	for _, tail := range []int{0, 1, stream.PageSize - 1} {
		image := append(bytes.Clone(data), make([]byte, tail)...)
		h, frames := packImage(t, "pages-7.img", image, has)
		got, referred := unpack(t, h, frames, has)
		if !bytes.Equal(got, image) || h.Name != "pages-7.img" {
			t.Errorf("with %d more bytes it is another image", tail)
		}
		if referred != int64(len(has))*stream.PageSize {
			t.Errorf("%d bytes are referred to, the target has %d", referred, len(has)*stream.PageSize)
		}
	}
	if h, frames := packImage(t, "pages-7.img", data, target{}); len(frames) < 4 {
		t.Errorf("%d frames", len(frames))
	} else if got, referred := unpack(t, h, frames, nil); referred != 0 || !bytes.Equal(got, data) {
		t.Error("of a target that has nothing something is taken")
	}
}

// ghost is the image of a deleted file as CRIU writes it.
func ghost(chunked bool, pieces ...[]byte) []byte {
	b := binary.LittleEndian.AppendUint32(nil, magicCommon)
	b = binary.LittleEndian.AppendUint32(b, magicGhost)
	head := protowire.AppendVarint(protowire.AppendTag(nil, 3, protowire.VarintType), 0o100600)
	head = protowire.AppendBytes(protowire.AppendTag(head, 6, protowire.BytesType), []byte("xyz"))
	if chunked {
		head = protowire.AppendVarint(protowire.AppendTag(head, 9, protowire.VarintType), 1)
	}
	b = appendRecord(b, head)
	for i, p := range pieces {
		if chunked {
			chunk := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(len(p)))
			chunk = protowire.AppendVarint(protowire.AppendTag(chunk, 2, protowire.VarintType), uint64(i)<<20)
			b = appendRecord(b, chunk)
		}
		b = append(b, p...)
	}
	return b
}

func TestPagesOfDeletedFilesAreFoundBehindTheirRecords(t *testing.T) {
	one, two := append(blockPage(1), blockPage(2)...), append(blockPage(3), 7, 7, 7)
	has := target{string(blockPage(2)): {VPID: 9, Addr: 0}, string(blockPage(3)): {VPID: 9, Addr: stream.PageSize}}
	for name, image := range map[string][]byte{"in pieces": ghost(true, one, two), "in one": ghost(false, append(one, two...)), "empty": ghost(true)} {
		h, frames := packImage(t, "ghost-file-1.img", image, has)
		got, referred := unpack(t, h, frames, has)
		if !bytes.Equal(got, image) {
			t.Errorf("%s: another image", name)
		}
		if want := int64(2 * stream.PageSize); referred != want && name != "empty" {
			t.Errorf("%s: %d bytes are referred to, want %d", name, referred, want)
		}
	}
	whole := ghost(true, one, two)
	for _, cut := range []int{3, 9, 14, 30, len(whole) - 1} {
		dir := t.TempDir()
		if err := os.WriteFile(dir+"/ghost-file-1.img", whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := PackBlocks(dir, "ghost-file-1.img", Owner{}, has.find, refs(MaxRefs), &collected{}); !errors.Is(err, ErrFormat) {
			t.Errorf("cut at %d of %d: %v", cut, len(whole), err)
		}
	}
}

func TestOnlyLargeImagesOfMemoryAreTakenApart(t *testing.T) {
	large := strings.Repeat("x", smallest)
	dir := fill(t, map[string]string{"pages-1.img": large, "pages-2.img": large[1:], "ghost-file-3.img": large, "core-1.img": large, "pages-1": large})
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var chosen []string
	for _, e := range entries {
		if HoldsMemory(e) {
			chosen = append(chosen, e.Name())
		}
	}
	if strings.Join(chosen, " ") != "ghost-file-3.img pages-1.img" {
		t.Errorf("chosen: %v", chosen)
	}
	var b bytes.Buffer
	if err := Pack(dir, &b, HoldsMemory); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if err := Unpack(&b, to, roomy); err != nil {
		t.Fatal(err)
	}
	if got := contents(t, to); len(got) != 3 || got["core-1.img"] != large {
		t.Errorf("%d files were packed", len(got))
	}
}

func TestNoMoreIsSparedThanTheTargetWouldRemember(t *testing.T) {
	has := target{}
	var data []byte
	for i := range 9 { // three runs of two pages, each behind a page that the target lacks
		if i%3 > 0 {
			has[string(blockPage(byte(i)))] = stream.Place{VPID: stream.FirstShared, Addr: uint64(i) * stream.PageSize}
		}
		data = append(data, blockPage(byte(i))...)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "pages-1.img"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	left := 2
	for want := range 2 {
		var out collected
		if err := PackBlocks(dir, "pages-1.img", Owner{}, has.find, &left, &out); err != nil {
			t.Fatal(err)
		}
		got, spared := unpack(t, BlocksHead{Size: int64(len(data))}, out[1:], has)
		if !bytes.Equal(got, data) || spared != int64(1-want)*4*stream.PageSize || left != 0 {
			t.Errorf("%d bytes spared, %d parts left", spared, left)
		}
	}
}

func TestBlocksAreReadAsTheyWereAlwaysWritten(t *testing.T) {
	has := target{string(blockPage(2)): {VPID: stream.FirstShared + 1, Addr: 0x3000}, string(blockPage(3)): {VPID: stream.FirstShared + 1, Addr: 0x4000}}
	data := bytes.Join([][]byte{blockPage(1), blockPage(2), blockPage(3), []byte("tail")}, nil)
	h, frames := packImage(t, "pages-1.img", data, has)
	golden := "testdata/format-1/blocks.bin"
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if len(frames) != 1 || !bytes.Equal(frames[0], want) {
		t.Fatalf("%d frames, or another than in %s", len(frames), golden)
	}
	if got, _ := unpack(t, h, [][]byte{want}, has); !bytes.Equal(got, data) {
		t.Error("it reads as something else")
	}
}

func TestHostileHeadsOfBlocksAreRefused(t *testing.T) {
	for _, h := range []BlocksHead{{Name: "../up"}, {Name: ""}, {Name: "a", Size: -1}, {Name: "a", Size: 101}} {
		if err := h.Check(100); err == nil {
			t.Errorf("%+v passes", h)
		}
	}
}

func FuzzBlocks(f *testing.F) {
	has := target{string(blockPage(2)): {VPID: stream.FirstShared + 1, Addr: 0x3000}}
	_, frames := packImage(f, "pages-1.img", append(blockPage(1), blockPage(2)...), has)
	f.Add(frames[0])
	f.Add([]byte{0, 0, 0, 0, 1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, frame []byte) {
		at := int64(7)
		end, err := EachBlock(frame, at, func(offset int64, p []byte) error {
			if offset != at || len(p) == 0 {
				t.Errorf("%d bytes at %d, want %d", len(p), offset, at)
			}
			at += int64(len(p))
			return nil
		}, func(r Ref) error {
			if r.Offset != at || r.Size <= 0 || r.Size > stream.MaxCopyPages*stream.PageSize || r.From.VPID <= 0 {
				t.Errorf("%+v at %d", r, at)
			}
			at += r.Size
			return nil
		})
		if err == nil && end != at {
			t.Errorf("it ends at %d, want %d", end, at)
		}
	})
}
