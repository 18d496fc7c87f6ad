package handoff

import (
	"maps"
	"slices"
)

// The model is two nodes that do what the rules say, one action at a time, and a network that keeps
// every message for ever and delivers it in any order, any number of times, or never. Between any
// two actions an agent may crash and start again, a node may go down and lose its copy of the job,
// an action may fail, or the parked copy may die. While one agent is down an operator may decide at
// the other, and vouches for no more than what is so. All orders are tried.

type copyState uint8

const (
	none copyState = iota
	running
	frozen // the source's
	parked // the target's
	dead
)

type message uint16

const (
	msgPrepare message = 1 << iota
	msgPrepared
	msgCommit
	msgRuns
	msgAbort
	msgSourceAsks
	msgTargetAsks
	msgSourceCommitted
	msgSourceAborted
	msgTargetHasCopy
	msgTargetHasNone
	msgTargetDropped
	msgTargetTook
	msgSourceYield // "an operator took the job here", to the target, asked or not
	msgTargetYield // the same, to the source

	toTarget = msgPrepare | msgCommit | msgAbort | msgSourceAsks | msgSourceCommitted | msgSourceAborted | msgSourceYield
	toSource = ^toTarget
)

// node is one side. rule and at say which action is next; rule is -1 when there is none.
type node struct {
	state    State
	job      copyState
	rule, at int8
	waits    Action // the action whose answer is awaited
	reboot   bool   // its copy is gone with an earlier boot
	ran      bool   // its copy has run since the freeze, or at all for the target
	took     bool   // an operator has taken its copy
	down     bool   // the agent is not running
	blind    bool   // its journal of the move cannot be read: it does nothing and answers nothing
}

type world struct {
	src, tgt node
	sent     message
	// what may still happen
	failures, crashes, reboots, deaths, decisions, damages int8
	excused                                                bool // the job could not have been saved
	admitted                                               bool // the target's fence has let the epoch in, and lets it in no more
	twice                                                  bool // an action had another effect the second time
}

type model struct {
	rules []namedRule
	index map[situation]int8
	// forgets is the mistake to take a journal that cannot be read for none.
	forgets bool
}

type namedRule struct {
	situation
	rule
}

func newModel(table map[situation]rule) *model {
	m := &model{index: map[situation]int8{}}
	keys := slices.SortedFunc(maps.Keys(table), func(a, b situation) int {
		return slices.Compare([]string{string(a.role), string(a.state), string(a.event)}, []string{string(b.role), string(b.state), string(b.event)})
	})
	for i, k := range keys {
		m.index[k] = int8(i)
		m.rules = append(m.rules, namedRule{k, table[k]})
	}
	return m
}

func start(failures, crashes, reboots, deaths int8, decisions ...int8) world {
	w := world{
		src:      node{state: StateNew, job: running, rule: -1},
		tgt:      node{state: StateNew, rule: -1},
		failures: failures, crashes: crashes, reboots: reboots, deaths: deaths,
	}
	for _, n := range decisions {
		w.decisions += n
	}
	return w
}

// fire lets a node begin with an event; it reports whether there is a rule for it.
func (m *model) fire(n *node, role Role, e Event) bool {
	i, ok := m.index[situation{role, n.state, e}]
	if !ok {
		return false
	}
	n.waits = ""
	n.rule, n.at = i, 0
	if len(m.rules[i].actions) == 0 {
		n.state, n.rule = m.rules[i].next, -1
	}
	return true
}

func (m *model) event(w world, role Role, e Event, out []world) []world {
	n := w.node(role)
	if m.fire(n, role, e) {
		out = append(out, w)
	}
	return out
}

func (w *world) node(r Role) *node {
	if r == RoleSource {
		return &w.src
	}
	return &w.tgt
}

// successors are all worlds that can come next.
func (m *model) successors(w world) []world {
	var out []world
	for _, role := range []Role{RoleSource, RoleTarget} {
		n := *w.node(role)
		switch {
		case n.blind:
		case n.down:
			out = m.restart(w, role, out)
		case n.rule >= 0:
			out = m.action(w, role, out)
		case role == RoleSource:
			out = m.sourceHears(w, out)
		default:
			out = m.targetHears(w, out)
		}
		out = m.disaster(w, role, out)
	}
	return m.answers(w, m.decide(w, out))
}

// decide are the worlds in which an operator decides, who knows that the other node's agent is gone,
// and what has become of the copy there. What was on its way to an agent that is gone dies with its
// connections.
func (m *model) decide(w world, out []world) []world {
	if w.decisions == 0 {
		return out
	}
	w.decisions--
	silent := func(n node) bool { return n.down || n.blind }
	waits := func(n node) bool {
		return !silent(n) && n.rule < 0 && n.waits != ActionAskPrepare && !n.state.Finished()
	}
	alive := func(n node) bool { return n.job == running || n.ran }
	there := w.src.job == frozen || w.src.job == running && w.src.state == StateAborting
	if waits(w.src) && there && silent(w.tgt) && !alive(w.tgt) && !w.src.reboot {
		c := w
		c.sent &^= toTarget
		c.src.took = true
		out = m.event(c, RoleSource, EventTake, out)
	}
	if waits(w.src) && silent(w.tgt) {
		c := w
		whole := slices.Contains([]State{StatePrepared, StateCommitted, StateDone}, c.tgt.state) && (c.tgt.job == parked || c.tgt.job == running)
		c.excused = c.excused || !whole || c.reboots > 0 // who drops a copy relies on the other
		c.sent &^= toTarget
		out = m.event(c, RoleSource, EventDrop, out)
	}
	if waits(w.tgt) && silent(w.src) && !alive(w.src) && !w.tgt.reboot {
		c := w
		c.sent &^= toSource
		c.tgt.took = true
		out = m.event(c, RoleTarget, EventTake, out)
	}
	if waits(w.tgt) && !alive(w.tgt) && (silent(w.src) || w.tgt.reboot && w.tgt.state == StateCommitted) {
		c := w
		c.excused = c.excused || c.src.job == dead || c.reboots > 0
		out = m.event(c, RoleTarget, EventDrop, out)
	}
	return out
}

func (m *model) restart(w world, role Role, out []world) []world {
	n := w.node(role)
	n.down = false
	if n.state == StateNew { // nothing is known of the move; the job was never touched
		n.rule = -1
		return append(out, w)
	}
	e := EventRestart
	if n.reboot {
		e = EventReboot
	}
	m.fire(n, role, e)
	return append(out, w)
}

func (m *model) disaster(w world, role Role, out []world) []world {
	crash := func(w world) world {
		n := w.node(role)
		n.down, n.rule, n.waits = true, -1, ""
		return w
	}
	if w.crashes > 0 && !w.node(role).down {
		c := w
		c.crashes--
		out = append(out, crash(c))
		if c.damages > 0 && c.node(role).state != StateNew { // the next agent finds the file damaged
			c.damages--
			c.node(role).blind = true
			out = append(out, crash(c))
		}
	}
	if w.reboots > 0 {
		c := w
		c.reboots--
		c.excused = c.excused || !savable(c, role)
		n := c.node(role)
		if n.job != none {
			n.job = dead
		}
		n.reboot = n.reboot || n.state != StateNew
		out = append(out, crash(c))
	}
	if role == RoleTarget && w.deaths > 0 && w.tgt.job == parked {
		c := w
		c.deaths--
		c.tgt.job = dead
		c.excused = c.excused || w.src.job == dead
		out = append(out, c)
	}
	return out
}

// savable tells whether the job must survive when a node goes down now.
func savable(w world, role Role) bool {
	if role == RoleTarget {
		return w.src.job != dead && w.tgt.state != StateCommitted && w.tgt.state != StateDone
	}
	here := w.tgt.job == parked || w.tgt.job == running
	return here && slices.Contains([]State{StatePrepared, StateCommitted, StateDone}, w.tgt.state) &&
		slices.Contains([]State{StateFrozen, StateCommitted, StateReleased}, w.src.state) && !w.src.ran
}

func (m *model) action(w world, role Role, out []world) []world {
	r := m.rules[w.node(role).rule]
	a := r.actions[w.node(role).at]
	ok, event := m.perform(&w, role, a, r.next)
	if again := w; ok {
		m.perform(&again, role, a, r.next)
		w.twice = w.twice || again != w
	}
	if ok && event == "" {
		out = append(out, m.next(w, role, r, a))
	} else {
		n := w.node(role)
		n.rule = -1
		if event == "" || !m.fire(n, role, event) {
			n.waits = ""
		}
		out = append(out, w)
	}
	return out
}

// next goes on after an action that succeeded, and may also let it fail in another world.
func (m *model) next(w world, role Role, r namedRule, a Action) world {
	n := w.node(role)
	n.at++
	if int(n.at) < len(r.actions) {
		return w
	}
	n.rule = -1
	switch a {
	case ActionThaw:
		m.fire(n, role, EventThawed)
	case ActionResume:
		m.fire(n, role, EventResumed)
	case ActionAskPrepare, ActionSendCommit, ActionAskOutcome, ActionAskDrop:
		n.waits = a
	}
	return w
}

// perform has the effect of an action on the world; ok false with an event says what it leads to.
func (m *model) perform(w *world, role Role, a Action, next State) (ok bool, event Event) {
	switch a {
	case ActionJournal:
		n := w.node(role)
		n.state = next
		n.took = n.took && next != StateReleased && next != StateDropped && !(role == RoleSource && next == StateCommitted)
	case ActionAdmit:
		if w.admitted {
			return false, ""
		}
		w.admitted = true
	case ActionFreeze:
		w.src.job = frozen
	case ActionAskPrepare:
		w.sent |= msgPrepare
	case ActionCheckFrozen:
		if w.src.job != frozen {
			return false, EventFail
		}
	case ActionSendCommit:
		w.sent |= msgCommit
	case ActionSendAbort:
		w.sent |= msgAbort
	case ActionThaw:
		if w.src.job == frozen {
			w.src.job, w.src.ran = running, true
		}
	case ActionRelease:
		w.src.job = dead
	case ActionAskOutcome:
		if role == RoleSource {
			w.sent |= msgSourceAsks
		} else {
			w.sent |= msgTargetAsks
		}
	case ActionPark:
		w.tgt.job = parked
	case ActionCheckRuns:
		if w.tgt.ran && !w.tgt.reboot {
			return true, EventResumed
		}
	case ActionCheckParked:
		if w.tgt.job != parked {
			return false, EventGone
		}
	case ActionResume:
		switch {
		case w.tgt.job == parked:
			w.tgt.job, w.tgt.ran = running, true
		case w.tgt.job == dead && !w.tgt.ran && !w.tgt.reboot:
			return false, EventGone
		case w.tgt.job == dead:
			return false, ""
		}
	case ActionAskDrop:
		w.sent |= msgAbort | msgSourceAsks
		if w.src.took {
			w.sent = w.sent&^msgAbort | msgSourceYield
		}
	case ActionDrop, ActionEnd:
		w.tgt.job = dead
	}
	return true, ""
}
