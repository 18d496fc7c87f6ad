package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/rseq"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/stream"
)

// writeImage writes an image of the messages, each given by its encoding.
func writeImage(t *testing.T, path string, magic uint32, msgs ...[]byte) {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(nil, magicCommon)
	b = binary.LittleEndian.AppendUint32(b, magic)
	for _, m := range msgs {
		b = appendRecord(b, m)
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func encoded(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// core is a core image of a thread with such an area, and hardly anything else.
func core(t *testing.T, addr uint64, size uint32) []byte {
	t.Helper()
	area := &rseq.RseqEntry{RseqAbiPointer: &addr, RseqAbiSize: &size, Signature: proto.Uint32(1)}
	thread := &criu_core.ThreadCoreEntry{FutexRla: proto.Uint64(0), FutexRlaLen: proto.Uint32(0), RseqEntry: area}
	if size == 0 {
		thread.RseqEntry = nil
	}
	mtype := criu_core.CoreEntry_X86_64
	return encoded(t, &criu_core.CoreEntry{Mtype: &mtype, ThreadCore: thread})
}

func TestTheAreasThatTheKernelWritesAreFoundForEveryThread(t *testing.T) {
	dir := t.TempDir()
	process := func(pid uint32, threads ...uint32) []byte {
		return encoded(t, &pstree.PstreeEntry{Pid: &pid, Ppid: proto.Uint32(0), Pgid: &pid, Sid: &pid, Threads: threads})
	}
	writeImage(t, filepath.Join(dir, "pstree.img"), magicPstree, process(1, 1, 4), process(7, 7), process(9, 9))
	for tid, img := range map[int][]byte{
		1: core(t, 0x7f0000001234, 32), 4: core(t, 0x7f0000001ff0, 32), 7: core(t, 0, 0), // 9 is a zombie
	} {
		writeImage(t, filepath.Join(dir, fmt.Sprintf("core-%d.img", tid)), magicCore, img)
	}
	got, err := RestartAreas(dir)
	want := []stream.Place{{VPID: 1, Addr: 0x7f0000001000}, {VPID: 1, Addr: 0x7f0000001000}, {VPID: 1, Addr: 0x7f0000002000}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %#x, %v", got, err)
	}
	writeImage(t, filepath.Join(dir, "core-7.img"), magicCore, protowire.AppendVarint(nil, 7))
	if _, err := RestartAreas(dir); !errors.Is(err, ErrFormat) {
		t.Errorf("a damaged image gives %v", err)
	}
	if _, err := RestartAreas(t.TempDir()); !errors.Is(err, ErrMissing) {
		t.Errorf("no image gives %v", err)
	}
}
