package namespaces

import (
	"math/rand/v2"
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

func TestAPrivateMapCoversEachIDOfAJobOnce(t *testing.T) {
	const base = 1 << 30
	for _, self := range selves() {
		next := uint32(0)
		for _, m := range PrivateMap(base, self) {
			if m.Count == 0 {
				t.Errorf("self %d: a line without ids, which the kernel refuses: %+v", self, m)
			}
			if m.Inside != next {
				t.Errorf("self %d: ids from %d on are left out or mapped twice", self, next)
			}
			next = m.Inside + m.Count
		}
		if next != jobIDs {
			t.Errorf("self %d: the map ends at %d", self, next)
		}
	}
}

func TestOnlyTheOwnerStaysWhoItIsOutside(t *testing.T) {
	const base = 1 << 30
	for _, self := range selves() {
		maps := PrivateMap(base, self)
		for _, id := range append(selves(), self) {
			out, known := Outside(maps, id)
			switch {
			case id >= jobIDs:
				if known {
					t.Errorf("self %d: id %d beyond the map becomes %d", self, id, out)
				}
			case id == self && self != 0:
				if out != self || !known {
					t.Errorf("self %d becomes %d", self, out)
				}
			case !known || out != base+id:
				t.Errorf("self %d: id %d becomes %d (known: %v)", self, id, out, known)
			}
		}
	}
}

func TestWithoutMapsIDsAreTheNodesOwn(t *testing.T) {
	for _, id := range selves() {
		if out, known := Outside(nil, id); !known || out != id {
			t.Errorf("%d becomes %d (known: %v)", id, out, known)
		}
	}
}
