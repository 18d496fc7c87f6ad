package namespaces

import (
	"math/rand/v2"
	"slices"
	"testing"
)

const jobIDs = 1 << 16

// selves are the ids whose maps have an edge, and some others.
func selves() []uint32 {
	list := []uint32{0, 1, 2, 1000, jobIDs - 2, jobIDs - 1, jobIDs, jobIDs + 1, 1<<32 - 2}
	for range 100 {
		list = append(list, rand.Uint32N(jobIDs))
	}
	return list
}

// owns are sets of ids that stay themselves: each alone, none, neighbours, and many.
func owns() [][]uint32 {
	sets := [][]uint32{nil, {0, 1}, {5, 6, 7}, {7, 5, 5, 6}, {jobIDs - 1, jobIDs}, {jobIDs + 5, jobIDs + 4, 9}, selves()}
	for _, self := range selves() {
		sets = append(sets, []uint32{self})
	}
	return sets
}

func TestAPrivateMapCoversEachIDOfAJobOnce(t *testing.T) {
	const base = 1 << 30
	for _, own := range owns() {
		times := map[uint32]int{}
		for _, m := range privateMap(base, own...) {
			if m.Count == 0 {
				t.Errorf("own %d: a line without ids, which the kernel refuses: %+v", own, m)
			}
			for i := range m.Count {
				times[m.Inside+i]++
			}
		}
		for _, id := range own {
			times[id] += 0
		}
		for id := range uint32(jobIDs) {
			times[id] += 0
		}
		for id, n := range times {
			if n != 1 || id >= jobIDs && !slices.Contains(own, id) {
				t.Errorf("own %d: id %d is mapped %d times", own, id, n)
			}
		}
	}
}

func TestOnlyTheOwnersIDsStayWhatTheyAreOutside(t *testing.T) {
	const base = 1 << 30
	for _, own := range owns() {
		maps := privateMap(base, own...)
		for _, id := range append(selves(), own...) {
			out, known := HostID(maps, id)
			switch {
			case slices.Contains(own, id):
				if out != id || !known {
					t.Errorf("own %d: id %d becomes %d (known: %v)", own, id, out, known)
				}
			case id >= jobIDs:
				if known {
					t.Errorf("own %d: id %d beyond the map becomes %d", own, id, out)
				}
			case !known || out != base+id:
				t.Errorf("own %d: id %d becomes %d (known: %v)", own, id, out, known)
			}
		}
	}
}

func TestRootInsideIsNobodyOutside(t *testing.T) {
	const base = 1 << 30
	for _, c := range []struct {
		uid, gid uint32
		groups   []uint32
		own      map[uint32]bool // groups that stay what they are
	}{
		{0, 0, []uint32{0, 6}, nil},
		{0, 50, []uint32{6}, map[uint32]bool{50: true}},
		{1000, 0, []uint32{6}, map[uint32]bool{0: true, 6: true}},
		{1000, 1000, []uint32{0, 6}, map[uint32]bool{0: true, 6: true, 1000: true}},
	} {
		uids, gids := PrivateMaps(base, c.uid, c.gid, c.groups)
		if out, _ := HostID(uids, 0); out != base {
			t.Errorf("%+v: its root is %d", c, out)
		}
		for _, g := range []uint32{0, 6, 50, 1000} {
			want := base + g
			if c.own[g] {
				want = g
			}
			if out, _ := HostID(gids, g); out != want {
				t.Errorf("%+v: its group %d is %d", c, g, out)
			}
		}
	}
}

func TestWithoutMapsIDsAreTheNodesOwn(t *testing.T) {
	for _, id := range selves() {
		if out, known := HostID(nil, id); !known || out != id {
			t.Errorf("%d becomes %d (known: %v)", id, out, known)
		}
	}
}
