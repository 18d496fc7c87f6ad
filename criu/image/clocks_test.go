package image

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// timens makes an image with the two timespecs, each seconds and nanoseconds.
func timens(clocks ...[2]uint64) []byte {
	var msg []byte
	for i, c := range clocks {
		var ts []byte
		for j, v := range c {
			ts = protowire.AppendTag(ts, protowire.Number(j+1), protowire.VarintType)
			ts = protowire.AppendVarint(ts, v)
		}
		msg = protowire.AppendTag(msg, protowire.Number(i+1), protowire.BytesType)
		msg = protowire.AppendBytes(msg, ts)
	}
	b := binary.LittleEndian.AppendUint32(nil, magicCommon)
	b = binary.LittleEndian.AppendUint32(b, magicTimens)
	return appendRecord(b, msg)
}

func goldenClocks(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(goldenDir, "timens-12.img"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestClocksOfARealDumpAreReadAndReplaced(t *testing.T) {
	mono, boot, err := Clocks(goldenDir)
	if err != nil || mono != 1702*time.Second+103741060 || boot != 1702*time.Second+103741170 {
		t.Fatalf("got %d, %d, %v", mono, boot, err)
	}
	dir := t.TempDir()
	name := filepath.Join(dir, "timens-12.img")
	if err := os.WriteFile(name, goldenClocks(t), 0o600); err != nil {
		t.Fatal(err)
	}
	wantMono, wantBoot := time.Hour+7*time.Nanosecond, 2*time.Hour-time.Nanosecond
	if err := SetClocks(dir, wantMono, wantBoot); err != nil {
		t.Fatal(err)
	}
	mono, boot, err = Clocks(dir)
	if err != nil || mono != wantMono || boot != wantBoot {
		t.Errorf("got %v, %v, %v", mono, boot, err)
	}
}

func TestSetClocksToWhatTheyWereChangesNoByte(t *testing.T) {
	mono, boot, err := Clocks(goldenDir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := encodeClocks(mono, boot), goldenClocks(t); string(got) != string(want) {
		t.Errorf("got %x, CRIU wrote %x", got, want)
	}
}

func TestBadClocksAreRefused(t *testing.T) {
	ok := [2]uint64{1, 2}
	for name, data := range map[string][]byte{
		"pagemap magic": pagemap(),
		"one clock":     timens(ok),
		"three clocks":  timens(ok, ok, ok),
		"nanoseconds":   timens(ok, [2]uint64{1, 1e9}),
		"seconds":       timens(ok, [2]uint64{1 << 62, 0}),
		"negative":      timens(ok, [2]uint64{1<<64 - 1, 0}),
		"two records":   appendRecord(timens(ok, ok), nil),
		"cut":           timens(ok, ok)[:20],
	} {
		if _, _, err := decodeClocks(data); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	dir := t.TempDir()
	if err := SetClocks(dir, 1, 1); !errors.Is(err, ErrMissing) {
		t.Errorf("no image: got %v", err)
	}
	if err := SetClocks(goldenDir, -1, 1); err == nil {
		t.Error("a negative reading was taken")
	}
}

func FuzzClocks(f *testing.F) {
	f.Add(goldenClocks(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		mono, boot, err := decodeClocks(data)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		if mono < 0 || boot < 0 {
			t.Errorf("negative reading %v %v", mono, boot)
		}
		again, again2, err := decodeClocks(encodeClocks(mono, boot))
		if err != nil || again != mono || again2 != boot {
			t.Errorf("%v %v became %v %v, %v", mono, boot, again, again2, err)
		}
	})
}
