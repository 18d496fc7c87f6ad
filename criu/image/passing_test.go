package image

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	skpacket "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-packet"
	"google.golang.org/protobuf/proto"
)

func head(magic uint32) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, magicCommon), magic)
}

func TestFilesOnTheirWayInSocketsAreCounted(t *testing.T) {
	dir := t.TempDir()
	if n, err := Passing(dir); n != 0 || err != nil {
		t.Errorf("without such an image: %d, %v", n, err)
	}
	files := head(magicFiles)
	for id, kind := range map[uint32]fdinfo.FdTypes{1: fdinfo.FdTypes_REG, 2: fdinfo.FdTypes_PIPE, 3: fdinfo.FdTypes_FIFO, 4: fdinfo.FdTypes_REG} {
		msg, err := proto.MarshalOptions{AllowPartial: true}.Marshal(&fdinfo.FileEntry{Type: kind.Enum(), Id: proto.Uint32(id)})
		if err != nil {
			t.Fatal(err)
		}
		files = appendRecord(files, msg)
	}
	queues := head(magicQueued)
	for _, ids := range [][]uint32{nil, {1, 2}, {3, 1, 9}} { // of 9 nothing is known
		e := &skpacket.SkPacketEntry{IdFor: proto.Uint32(5), Length: proto.Uint32(3)}
		if ids != nil {
			e.Scm = []*skpacket.ScmEntry{{Type: proto.Uint32(1), Rights: ids}}
		}
		msg, err := proto.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		queues = append(appendRecord(queues, msg), "abc"...)
	}
	write := func(data []byte) {
		t.Helper()
		if err := errors.Join(os.WriteFile(filepath.Join(dir, filesName), files, 0o600), os.WriteFile(filepath.Join(dir, queuedName), data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write(queues)
	if n, err := Passing(dir); n != 3 || err != nil {
		t.Errorf("%d, %v; want 3", n, err)
	}
	write(queues[:len(queues)-1])
	if _, err := Passing(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("cut short: %v", err)
	}
}
