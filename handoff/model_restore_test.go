package handoff

import (
	"fmt"
	"slices"
	"testing"
)

// bad says what is wrong with a world, "" if nothing is.
func (v variant) bad(w rWorld) string {
	switch {
	case !w.wrong && w.running() > 1:
		return "two copies run, and no operator was wrong"
	case w.lost:
		return "a copy was ended for one that has never run"
	case w.running() > 1 && !w.cut && !w.down && !v.mends(w):
		return "two copies run, and nobody ends one"
	}
	return ""
}

// mends tells whether a node can end a copy now, or waits for a restore to end.
func (v variant) mends(w rWorld) bool {
	for i := range int8(rNodes) {
		if w.n[i].try.begun || slices.ContainsFunc(v.reconcile(w, i), func(next rWorld) bool { return next.running() < w.running() || v.mends(next) }) {
			return true
		}
	}
	return false
}

// exploreRestores visits every world, and returns the way to the first that is bad.
func exploreRestores(v variant, from rWorld) (worlds int, bad string, way []rWorld) {
	all, parent, seen := []rWorld{from}, []int{-1}, map[rWorld]bool{from: true}
	for i := 0; i < len(all); i++ {
		if bad = v.bad(all[i]); bad != "" {
			for k := i; k >= 0; k = parent[k] {
				way = append(way, all[k])
			}
			slices.Reverse(way)
			return len(all), bad, way
		}
		for _, next := range v.successors(all[i]) {
			if !seen[next] {
				seen[next] = true
				all, parent = append(all, next), append(parent, i)
			}
		}
	}
	return len(all), "", nil
}

func TestModelOfRestoresBringsOneCopyBackInEveryOrderOfFaults(t *testing.T) {
	for _, w := range restoreAdversities() {
		t.Run(w.name, func(t *testing.T) {
			worlds, bad, trace := exploreRestores(sound(), w.from)
			if bad != "" {
				t.Fatal(describe(bad, trace))
			}
			t.Logf("%d worlds", worlds)
		})
	}
}

type adversity struct {
	name string
	from rWorld
}

func restoreAdversities() []adversity {
	return []adversity{
		{"three tries", startRestores(false, 3, 0, 0, 0, 0)},
		{"left running, it moves", startRestores(true, 2, 0, 2, 0, 0)},
		{"agents crash", startRestores(true, 3, 1, 0, 0, 0)},
		{"a cut", startRestores(true, 2, 0, 1, 1, 0)},
		{"the writer goes down", startRestores(true, 3, 0, 0, 0, 1)},
	}
}

func describe(bad string, trace []rWorld) string {
	s := bad + "\n"
	for _, w := range trace {
		s += fmt.Sprintf("  %+v\n", w)
	}
	return s
}

func TestModelOfRestoresCatchesEveryBrokenVariant(t *testing.T) {
	for name, breakIt := range map[string]func(*variant){
		"a grant does not depend on what was seen": func(v *variant) {
			v.grants = func(now, _, epoch int8) bool { return epoch > now }
		},
		"whom a node has granted is not asked":      func(v *variant) { v.askGrantee = false },
		"who knew where the job went is not asked":  func(v *variant) { v.bystanders = false },
		"a grant is taken for news":                 func(v *variant) { v.newsOfRunsOnly = false },
		"a node that went down thinks it knows all": func(v *variant) { v.hearFirst = false },
		"the dead are not asked once more":          func(v *variant) { v.checkAgain = false },
		"a restore past a dead node stays in line":  func(v *variant) { v.nextLine = func(epoch, _ int8) int8 { return epoch + 1 } },
		"nobody tells, and nobody asks":             func(v *variant) { v.listen = false },
	} {
		t.Run(name, func(t *testing.T) {
			v := sound()
			breakIt(&v)
			for _, w := range restoreAdversities() {
				if _, bad, _ := exploreRestores(v, w.from); bad != "" {
					t.Logf("%s: %s", w.name, bad)
					return
				}
			}
			t.Error("no adversity shows that this is wrong")
		})
	}
}
