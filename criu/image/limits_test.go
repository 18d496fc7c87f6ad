package image

import (
	"errors"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/rlimit"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

func TestAProcessIsSavedWithItsOwnLimitOfDescriptors(t *testing.T) {
	leader := leaderOf(coreOf(0, 0))
	leader.Tc.Rlimits = &criu_core.TaskRlimitsEntry{}
	for range 16 {
		leader.Tc.Rlimits.Rlimits = append(leader.Tc.Rlimits.Rlimits, &rlimit.RlimitEntry{Cur: proto.Uint64(7), Max: proto.Uint64(8)})
	}
	dir := writeCores(t, 5, map[uint32]*criu_core.CoreEntry{5: leader, 6: coreOf(0, 0)})
	if err := SetDescriptorLimits(dir, map[int]Limit{5: {Soft: 40, Hard: 41}, 99: {}}); err != nil {
		t.Fatal(err)
	}
	core, err := readCore(corePath(dir, 5))
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range core.GetTc().GetRlimits().GetRlimits() {
		want := [2]uint64{7, 8}
		if i == unix.RLIMIT_NOFILE {
			want = [2]uint64{40, 41}
		}
		if got := [2]uint64{l.GetCur(), l.GetMax()}; got != want {
			t.Errorf("limit %d is %v, want %v", i, got, want)
		}
	}
	leader.Tc.Rlimits = nil
	dir = writeCores(t, 5, map[uint32]*criu_core.CoreEntry{5: leader})
	if err := SetDescriptorLimits(dir, map[int]Limit{5: {}}); !errors.Is(err, ErrFormat) {
		t.Errorf("an image without limits: %v", err)
	}
}
