package handoff

import (
	"fmt"
	"maps"
	"slices"
	"testing"
)

// failing are the worlds in which the next action of a node fails without effect.
func (m *model) failing(w world) []world {
	var out []world
	if w.failures == 0 {
		return nil
	}
	w.failures--
	for _, role := range []Role{RoleSource, RoleTarget} {
		c := w
		n := c.node(role)
		if n.down || n.rule < 0 {
			continue
		}
		r := m.rules[n.rule]
		e, may := failure(role, r, r.actions[n.at])
		if !may {
			continue
		}
		n.rule = -1
		if e != "" {
			m.fire(n, role, e)
		}
		out = append(out, c)
	}
	return out
}

// failure says what follows when an action fails, like the engine. "" is the end of its work: the
// target hears the next event, the source's agent recovers the move later.
func failure(role Role, r namedRule, a Action) (Event, bool) {
	if role == RoleTarget {
		if a == ActionPark {
			return EventGone, true
		}
		return "", a != ActionAdmit
	}
	begun := r.event == EventStart || r.event == EventPeerPrepared
	switch {
	case a == ActionJournal && r.next == StateAborting && r.state == StateFrozen:
		return "", false // the job comes first; see doc.go
	case begun && a != ActionSendCommit && !(a == ActionJournal && r.state == StateNew):
		return EventFail, true
	}
	return "", true
}

// invariants are those of doc.go, by number; each says how a world breaks it, "" if
// it does not. All are asked of every world that can come about. That an action done
// twice is as good as done once, the fourth, is asked where actions are performed.
var invariants = map[int]func(w world) string{
	1: func(w world) string {
		switch {
		case w.src.job == running && w.tgt.job == running:
			return "two copies run"
		case w.src.ran && w.tgt.ran:
			return "both copies have run since the freeze"
		case !w.src.took && w.src.state != StateNew && w.src.job == running && w.tgt.state == StateCommitted:
			return "the target committed while the job ran on the source"
		}
		return ""
	},
	2: func(w world) string {
		if gone := func(s copyState) bool { return s == dead || s == none }; !w.excused && gone(w.src.job) && gone(w.tgt.job) {
			return "no copy is left"
		}
		return ""
	},
	3: func(w world) string {
		decided := w.tgt.state == StateCommitted || w.tgt.state == StateDone
		byOperator := w.src.took || w.tgt.took
		if decided && !byOperator && w.src.state != StateCommitted && w.src.state != StateReleased {
			return "the target committed before the source"
		}
		return ""
	},
	4: func(w world) string {
		if w.twice {
			return "an action done twice is not as one done once"
		}
		return ""
	},
	5: func(w world) string {
		if w.tgt.state != StateNew && w.tgt.state != StateDropped && !w.admitted {
			return "the target works on an epoch that was not admitted"
		}
		return ""
	},
}

// violation names the invariant that a world breaks, 0 for none.
func violation(w world) (int, string) {
	for number := 1; number <= len(invariants); number++ {
		if bad := invariants[number](w); bad != "" {
			return number, bad
		}
	}
	return 0, ""
}

// good is an ending: one copy runs, and both nodes know.
func good(w world) bool {
	one := (w.src.job == running) != (w.tgt.job == running)
	settled := func(s State) bool { return s == StateNew || s.Finished() }
	return one && settled(w.src.state) && settled(w.tgt.state) && w.src.job != frozen && w.tgt.job != parked &&
		w.src.rule < 0 && w.tgt.rule < 0
}

type report struct {
	worlds    int
	invariant int // 0 with bad: none is broken, but the way out is missing
	bad       string
	trace     []world
}

// explore visits every world and returns the first violation, with the way to it, or a world from
// which no good ending can be reached.
func explore(table map[situation]rule, from world, mistakes ...func(*model)) report {
	m := newModel(table)
	for _, mistake := range mistakes {
		mistake(m)
	}
	number := map[world]int{from: 0}
	worlds := []world{from}
	parent := []int{-1}
	before := [][]int{nil}
	trace := func(i int) (t []world) {
		for ; i >= 0; i = parent[i] {
			t = append(t, worlds[i])
		}
		slices.Reverse(t)
		return t
	}
	for i := 0; i < len(worlds); i++ {
		if number, bad := violation(worlds[i]); bad != "" {
			return report{len(worlds), number, bad, trace(i)}
		}
		for _, next := range append(m.successors(worlds[i]), m.failing(worlds[i])...) {
			k, seen := number[next]
			if !seen {
				k = len(worlds)
				number[next] = k
				worlds, parent, before = append(worlds, next), append(parent, i), append(before, nil)
			}
			before[k] = append(before[k], i)
		}
	}
	if i := stuck(worlds, before); i >= 0 {
		return report{len(worlds), 0, "no good ending can be reached", trace(i)}
	}
	return report{worlds: len(worlds)}
}

func stuck(worlds []world, before [][]int) int {
	saved := make([]bool, len(worlds))
	var queue []int
	for i, w := range worlds {
		if good(w) {
			saved[i], queue = true, append(queue, i)
		}
	}
	for len(queue) > 0 {
		i := queue[0]
		queue = queue[1:]
		for _, b := range before[i] {
			if !saved[b] {
				saved[b], queue = true, append(queue, b)
			}
		}
	}
	for i, w := range worlds {
		if !saved[i] && !w.excused && !w.src.blind && !w.tgt.blind { // an operator has to look

			return i
		}
	}
	return -1
}

func (r report) String() string {
	s := fmt.Sprintf("%d worlds: %s\n", r.worlds, r.bad)
	for _, w := range r.trace {
		s += fmt.Sprintf("  %+v\n", w)
	}
	return s
}

// adversities are sorted by the number of worlds that they lead to.
var adversities = []struct {
	name string
	from world
}{
	{"lossy network", start(0, 0, 0, 0)},
	{"two failing actions", start(2, 0, 0, 0)},
	{"a node goes down", start(0, 0, 1, 0)},
	{"two agent crashes", start(0, 2, 0, 0)},
	{"a node goes down, and a death", start(0, 0, 1, 1)},
	{"an operator, and two crashes", start(0, 2, 0, 0, 1)},
	{"a crash, a failure and a death", start(1, 1, 0, 1)},
	{"a node goes down, and a crash", start(0, 1, 1, 0)},
	{"both nodes go down, and a failure", start(1, 0, 2, 0)},
	{"an operator, a crash, a reboot", start(0, 1, 1, 0, 1)},
	{"two operators, and three crashes", start(0, 3, 0, 0, 2)},
	{"a damaged journal, and two crashes", damaged(start(0, 2, 0, 0), 1)},
	{"a damaged journal, an operator, two crashes", damaged(start(0, 2, 0, 0, 1), 1)},
	{"two damaged journals, an operator, a reboot", damaged(start(0, 2, 1, 0, 1), 2)},
}

func damaged(w world, journals int8) world {
	w.damages = journals
	return w
}

func TestModelCatchesANodeThatTakesADamagedJournalForNone(t *testing.T) {
	r := explore(rules, damaged(start(0, 2, 0, 0), 1), func(m *model) { m.forgets = true })
	if r.invariant == 0 {
		t.Errorf("nothing shows that it is one: %s", r)
	}
}

func TestModelRunsOneCopyAndLosesNoneInEveryOrderOfFaults(t *testing.T) {
	for _, a := range adversities {
		t.Run(a.name, func(t *testing.T) {
			r := explore(rules, a.from)
			if r.bad != "" {
				t.Fatal(r)
			}
			t.Logf("%d worlds", r.worlds)
		})
	}
}

func TestModelCatchesEveryBrokenVariantOfTheRules(t *testing.T) {
	needed := map[int]bool{4: true} // it is about effects, which no rule can break
	for name, breakIt := range map[string]func(map[situation]rule){
		"the target takes what its fence has not admitted": func(r map[situation]rule) {
			r[situation{RoleTarget, StateNew, EventBegin}] = rule{StateReceiving, []Action{ActionJournal}}
		},
		"commit is sent before it is recorded": func(r map[situation]rule) {
			r[situation{RoleSource, StateFrozen, EventPeerPrepared}] = rule{StateCommitted, []Action{ActionCheckFrozen, ActionSendCommit, ActionJournal}}
		},
		"thaw before the decision is recorded": func(r map[situation]rule) {
			r[situation{RoleSource, StateFrozen, EventFail}] = rule{StateAborting, []Action{ActionThaw, ActionJournal}}
		},
		"a restarted source thaws after its commit": func(r map[situation]rule) {
			r[situation{RoleSource, StateCommitted, EventRestart}] = rule{StateAborting, []Action{ActionJournal, ActionThaw}}
		},
		"the source releases when it has committed": func(r map[situation]rule) {
			r[situation{RoleSource, StateCommitted, EventRestart}] = rule{StateReleased, []Action{ActionRelease, ActionJournal}}
		},
		"a target that is cut off commits by itself": func(r map[situation]rule) {
			r[situation{RoleTarget, StatePrepared, EventCut}] = rule{StateCommitted, []Action{ActionCheckParked, ActionJournal, ActionResume}}
		},
		"a target that is cut off drops a copy that it has committed": func(r map[situation]rule) {
			r[situation{RoleTarget, StateCommitted, EventCut}] = rule{StateDropped, []Action{ActionDrop, ActionJournal}}
		},
		"the target resumes before it records": func(r map[situation]rule) {
			r[situation{RoleTarget, StatePrepared, EventCommit}] = rule{StateCommitted, []Action{ActionCheckParked, ActionResume, ActionJournal}}
		},
		"the target does not check its copy and calls it gone after a reboot": func(r map[situation]rule) {
			r[situation{RoleTarget, StateCommitted, EventReboot}] = rule{StateDropped, []Action{ActionDrop, ActionJournal}}
		},
		"a rebooted source gives up at once": func(r map[situation]rule) {
			r[situation{RoleSource, StateFrozen, EventReboot}] = rule{StateAborted, []Action{ActionJournal, ActionSendAbort}}
		},
		"a restarted source commits without a check": func(r map[situation]rule) {
			r[situation{RoleSource, StateAborting, EventRestart}] = rule{StateCommitted, []Action{ActionJournal, ActionSendCommit}}
		},
		"a restarted source thaws without asking": func(r map[situation]rule) {
			r[situation{RoleSource, StateFrozen, EventRestart}] = rule{StateAborting, []Action{ActionJournal, ActionThaw}}
		},
		"a restarted source that aborts thaws without asking": func(r map[situation]rule) {
			r[situation{RoleSource, StateAborting, EventRestart}] = rule{StateAborting, []Action{ActionThaw}}
		},
		"a restarted target resumes without asking": func(r map[situation]rule) {
			r[situation{RoleTarget, StateCommitted, EventRestart}] = rule{StateCommitted, []Action{ActionResume}}
		},
		"a restarted target does not see that its copy runs": func(r map[situation]rule) {
			r[situation{RoleTarget, StateCommitted, EventRestart}] = rule{StateCommitted, []Action{ActionAskOutcome}}
		},
		"an operator takes the job before the record": func(r map[situation]rule) {
			r[situation{RoleSource, StateCommitted, EventTake}] = rule{StateAborting, []Action{ActionCheckFrozen, ActionThaw, ActionJournal}}
		},
		"a source whose peer was taken releases before it runs": func(r map[situation]rule) {
			r[situation{RoleSource, StateAborting, EventPeerTook}] = rule{StateReleased, []Action{ActionRelease, ActionJournal}}
		},
		"a dropped target forgets": func(r map[situation]rule) {
			r[situation{RoleTarget, StateDropped, EventCommit}] = rule{StateDone, []Action{ActionPark, ActionResume, ActionJournal}}
		},
		"a prepared target does not ask": func(r map[situation]rule) {
			r[situation{RoleTarget, StatePrepared, EventRestart}] = rule{StatePrepared, nil}
			r[situation{RoleTarget, StatePrepared, EventCut}] = rule{StatePrepared, nil}
			r[situation{RoleSource, StateAborting, EventThawed}] = rule{StateAborted, []Action{ActionJournal}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			table := maps.Clone(rules)
			breakIt(table)
			caught := false
			for _, a := range adversities {
				if r := explore(table, a.from); r.bad != "" {
					caught, needed[r.invariant] = true, true
					break
				}
			}
			if !caught {
				t.Error("no adversity shows that these rules are wrong")
			}
		})
	}
	for number := range invariants {
		if !needed[number] {
			t.Errorf("invariant %d has caught nothing", number)
		}
	}
}
