package image

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	skunix "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-unix"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

func TestSocketsAreFoundByTheirPathsInTheJob(t *testing.T) {
	img := []byte{0x19, 0x43, 0x56, 0x54, 0x38, 0x31, 0x30, 0x56}
	for _, s := range []*skunix.UnixSkEntry{
		{Name: []byte("/home/a/socket\x00")}, {Name: []byte("socket\x00"), NameDir: proto.String("/home/b")},
		{Name: []byte("/home/gone"), Deleted: proto.Bool(true)}, {Name: []byte("\x00abstract")}, {}, nil,
	} {
		msg, err := proto.MarshalOptions{AllowPartial: true}.Marshal(&fdinfo.FileEntry{Type: fdinfo.FdTypes_UNIXSK.Enum(), Id: proto.Uint32(1), Usk: s})
		if err != nil {
			t.Fatal(err)
		}
		img = appendRecord(img, msg)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, filesName)
	if err := os.WriteFile(path, img, 0o600); err != nil {
		t.Fatal(err)
	}
	names, err := SocketNames(dir)
	if want := []string{"/home/a/socket", "/home/b/socket", "/home/gone"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q, %v", names, err)
	}
	for what, bad := range map[string][]byte{"cut short": img[:len(img)-1], "no message": appendRecord(slices.Clone(img), protowire.AppendTag(nil, 1, protowire.BytesType))} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := SocketNames(dir); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", what, err)
		}
	}
}
