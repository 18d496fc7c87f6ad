package image

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fown"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/timerfd"
	"google.golang.org/protobuf/proto"
)

func TestOnlyPeriodicTimersThatWaitToBeReadAreWoken(t *testing.T) {
	entry := func(value, interval, ticks uint64) *fdinfo.FileEntry {
		return &fdinfo.FileEntry{Type: fdinfo.FdTypes_TIMERFD.Enum(), Id: proto.Uint32(1), Tfd: &timerfd.TimerfdEntry{
			Id: proto.Uint32(1), Flags: proto.Uint32(0), Clockid: proto.Uint32(1), SettimeFlags: proto.Uint32(0), Ticks: proto.Uint64(ticks),
			Vsec: proto.Uint64(0), Vnsec: proto.Uint64(value), Isec: proto.Uint64(0), Insec: proto.Uint64(interval),
			Fown: &fown.FownEntry{Uid: proto.Uint32(0), Euid: proto.Uint32(0), Signum: proto.Uint32(0), PidType: proto.Uint32(0), Pid: proto.Uint32(0)}}}
	}
	dir := t.TempDir()
	cases := []struct{ value, interval, ticks, want uint64 }{
		{0, 30, 1, 1}, {0, 30, 0, 0}, {0, 0, 1, 0}, {7, 30, 1, 7},
	}
	img := []byte{0x19, 0x43, 0x56, 0x54, 0x38, 0x31, 0x30, 0x56}
	for _, c := range cases {
		msg, err := proto.Marshal(entry(c.value, c.interval, c.ticks))
		if err != nil {
			t.Fatal(err)
		}
		img = appendRecord(img, msg)
	}
	path := filepath.Join(dir, "files.img")
	if err := os.WriteFile(path, img, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := WakeTimers(dir); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rest, err := cutMagic(data, magicFiles)
	for _, c := range cases {
		var record []byte
		if record, rest, err = cutRecord(rest); err != nil {
			t.Fatal(err)
		}
		var e fdinfo.FileEntry
		if err := proto.Unmarshal(record, &e); err != nil {
			t.Fatal(err)
		}
		if got := e.GetTfd().GetVnsec(); got != c.want || e.GetTfd().GetTicks() != c.ticks {
			t.Errorf("%+v: value %d", c, got)
		}
	}
	if err != nil || len(rest) != 0 {
		t.Errorf("%d bytes left, %v", len(rest), err)
	}
}
