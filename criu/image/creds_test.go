package image

import (
	"errors"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/seccomp"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/identity"
)

func TestThreadsHaveTheFiltersThatTheMainThreadSetsForAll(t *testing.T) {
	const forAll = 1 // SECCOMP_FILTER_FLAG_TSYNC
	process := &pstree.PstreeEntry{Pid: proto.Uint32(7), Threads: []uint32{7, 8, 9}}
	leader := &criu_core.ThreadCoreEntry{SeccompMode: criu_core.SeccompMode(filtered).Enum(), SeccompFilter: proto.Uint32(1)}
	for name, c := range map[string]struct {
		flags         [2]uint32
		mode, filters int64 // of thread 8
	}{
		"all of them": {[2]uint32{forAll, forAll}, filtered, 2}, "none": {mode: 0, filters: 0}, "the first": {[2]uint32{forAll, 0}, filtered, 1},
	} {
		s := saved{chains: []*seccomp.SeccompFilter{{Flags: &c.flags[0]}, {Flags: &c.flags[1], Prev: proto.Uint32(0)}}}
		s.job.Threads = map[identity.ID]identity.Thread{{PID: 7, TID: 7}: {Seccomp: filtered, Filters: 2}, {PID: 7, TID: 8}: {}, {PID: 7, TID: 9}: {Seccomp: filtered, Filters: 5}}
		if err := s.shareFilters(process, leader); err != nil {
			t.Fatal(err)
		}
		for tid, want := range map[int]identity.Thread{7: {Seccomp: filtered, Filters: 2}, 8: {Seccomp: c.mode, Filters: c.filters}, 9: {Seccomp: filtered, Filters: 5}} {
			if has := s.job.Threads[identity.ID{PID: 7, TID: tid}]; has.Seccomp != want.Seccomp || has.Filters != want.Filters {
				t.Errorf("%s: thread %d has mode %d and %d filters", name, tid, has.Seccomp, has.Filters)
			}
		}
	}
	circle := saved{chains: []*seccomp.SeccompFilter{{Prev: proto.Uint32(1)}, {Prev: proto.Uint32(0)}}}
	if err := circle.shareFilters(process, leader); !errors.Is(err, ErrFormat) {
		t.Errorf("filters in a circle: %v", err)
	}
}
