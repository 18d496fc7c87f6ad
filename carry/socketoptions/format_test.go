package socketoptions

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
)

const golden = "testdata/format-1"

func sample() record {
	return record{
		Kinds: []kindRecord{
			{kind{unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_TCP}, values{"TCP_CONGESTION": []byte("cubic"), "IP_TTL": {64, 0, 0, 0}}},
			{kind{unix.AF_INET6, unix.SOCK_DGRAM, unix.IPPROTO_UDP}, values{}},
		},
		Sockets: []socketRecord{
			{PID: 1, FD: 3, Kind: 0, Values: values{"TCP_CONGESTION": []byte("reno")}},
			{PID: 7, FD: 4, Kind: 1, Groups: []group{{Interface: 2, Address: netip.MustParseAddr("ff15::1"), Only: true, Sources: []netip.Addr{netip.MustParseAddr("fd00::1")}}}},
		},
	}
}

func TestOptionsAreWrittenAsTheyAlwaysWere(t *testing.T) {
	images, want := t.TempDir(), sample()
	if err := want.write(images); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(images, fileName))
	if err != nil {
		t.Fatal(err)
	}
	old, err := os.ReadFile(filepath.Join(golden, fileName))
	if err != nil || !bytes.Equal(got, old) {
		t.Errorf("what is written now is not what %s holds (%v): %s", golden, err, got)
	}
	if r, err := readRecord(golden); err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("read %+v, %v", r, err)
	}
	if r, err := readRecord(t.TempDir()); err != nil || len(r.Sockets) > 0 {
		t.Errorf("of an older source: %+v, %v", r, err)
	}
}

func TestWhatNoSourceWritesIsRefused(t *testing.T) {
	for what, spoil := range map[string]func(*record){
		"an unknown option": func(r *record) { r.Sockets[0].Values = values{"SO_NEW": nil} },
		"a long value":      func(r *record) { r.Kinds[0].Values = values{"IP_TTL": make([]byte, 5)} },
		"no such kind":      func(r *record) { r.Sockets[1].Kind = 2 },
		"a negative kind":   func(r *record) { r.Sockets[1].Kind = -1 },
		"no descriptor":     func(r *record) { r.Sockets[1].FD = -1 },
		"no group":          func(r *record) { r.Sockets[1].Groups[0].Address = netip.MustParseAddr("fd00::2") },
		"another family":    func(r *record) { r.Sockets[1].Groups[0].Sources[0] = netip.MustParseAddr("10.0.0.1") },
		"many sources":      func(r *record) { r.Sockets[1].Groups[0].Sources = make([]netip.Addr, maxSources+1) },
		"many groups":       func(r *record) { r.Sockets[1].Groups = make([]group, maxGroups+1) },
	} {
		r, images := sample(), t.TempDir()
		spoil(&r)
		if err := r.write(images); err != nil {
			t.Fatal(err)
		}
		if _, err := readRecord(images); !errors.Is(err, image.ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
	images := t.TempDir()
	path := filepath.Join(images, fileName)
	if err := errors.Join(os.WriteFile(path, nil, 0o600), os.Truncate(path, 1<<40)); err != nil {
		t.Fatal(err)
	}
	if _, err := readRecord(images); !errors.Is(err, image.ErrSize) {
		t.Errorf("a huge file: %v", err)
	}
}

// FuzzRecord has a node send any file: what passes is within its bounds.
func FuzzRecord(f *testing.F) {
	data, err := os.ReadFile(filepath.Join(golden, fileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte(`{"kinds":[{}],"sockets":[{"kind":0,"groups":[{"address":"224.0.0.1"}]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var r record
		if json.Unmarshal(data, &r) != nil || r.check() != nil {
			return
		}
		for _, s := range r.Sockets {
			_ = r.Kinds[s.Kind]
			for _, g := range s.Groups {
				g.encode(sourcesAt + len(g.Sources)*addressSize)
			}
		}
	})
}
