package handoff

// The model of restores is three nodes, the first of which has written a checkpoint of a job. Every
// node may try to bring the job back, asking and being granted one message at a time; agents crash in
// between, answers are lost, a grant is delivered long after who asked for it has given up, the first
// node is cut off or goes down, and operators declare it dead. The job ends, or moves, when it likes,
// also on its own side of a cut. What lies in the directory is not in the model: its user removes it.
// All orders are tried.

const rNodes = 3

type set uint8

func (s set) has(i int8) bool    { return s&(1<<i) != 0 }
func (s set) with(i int8) set    { return s | 1<<i }
func (s set) without(i int8) set { return s &^ (1 << i) }

// try is a node's attempt to bring the job back.
type try struct {
	active, begun, checked bool
	todo, asked, dead      set
	granted                set
	bystandersAsked        bool
	seen                   [rNodes]int8
	epoch                  int8
}

// rNode is a node of the model. An epoch is line × 8 + number here, so that worlds are small.
type rNode struct {
	runs    bool
	record  int8 // epoch of the copy that it has or had, 0 if none has run
	fence   int8
	grantee int8 // the node that it has granted, -1 none
	movedTo int8 // -1 nowhere
	owes    set
	owesFor int8
	try     try
}

// late is a request for a grant whose sender has given up.
type late struct{ to, from, seen, epoch int8 }

type rWorld struct {
	n                                  [rNodes]rNode
	late                               [2]late // to is -1 in one that is not there
	cut                                bool    // the first node is cut off
	down                               bool    // or down; its copy is gone
	wrong                              bool    // some operator was wrong
	tries, crashes, moves, cuts, downs int8
	unheard                            set  // by the first node, since it went down
	lost                               bool // a copy was ended for one that has never run
}

// variant are the rules that a test may break.
type variant struct {
	grants                                                                func(now, seen, epoch int8) bool
	supersedes                                                            func(epoch, other int8) bool
	nextLine                                                              func(epoch, node int8) int8
	askGrantee, bystanders, newsOfRunsOnly, hearFirst, checkAgain, listen bool
}

func sound() variant {
	return variant{
		grants:     func(now, seen, epoch int8) bool { return grants(int64(now), int64(seen), int64(epoch)) },
		supersedes: func(epoch, other int8) bool { return epoch/8 > other/8 },
		nextLine:   func(epoch, node int8) int8 { return (epoch/8/rNodes*rNodes + rNodes + node) * 8 },
		askGrantee: true, bystanders: true, newsOfRunsOnly: true, hearFirst: true, checkAgain: true, listen: true,
	}
}

func startRestores(running bool, tries, crashes, moves, cuts, downs int8) rWorld {
	w := rWorld{tries: tries, crashes: crashes, moves: moves, cuts: cuts, downs: downs}
	for i := range w.n {
		w.n[i] = rNode{grantee: -1, movedTo: -1}
	}
	w.n[0].runs, w.n[0].record = running, 1
	w.late = [2]late{{to: -1}, {to: -1}}
	return w
}

// linked tells whether two nodes hear each other.
func (w *rWorld) linked(i, j int8) bool { return i == j || !(w.cut || w.down) || i != 0 && j != 0 }

func (w *rWorld) works(i int8) bool { return i != 0 || !w.down }

func (w *rWorld) alive(i int8) bool { return w.n[i].runs || w.n[i].try.begun }

func (w *rWorld) running() (n int) {
	for _, each := range w.n {
		if each.runs {
			n++
		}
	}
	return n
}

func (v variant) successors(w rWorld) (out []rWorld) {
	for i := range int8(rNodes) {
		if w.works(i) {
			out = append(out, v.attempt(w, i)...)
			out = append(out, v.reconcile(w, i)...)
			out = append(out, v.hear(w, i)...)
			out = append(out, v.live(w, i)...)
		}
	}
	out = append(out, v.deliver(w)...)
	return append(out, weather(w)...)
}

// weather cuts, mends, powers off and on.
func weather(w rWorld) (out []rWorld) {
	change := func(ok bool, do func(*rWorld)) {
		if c := w; ok {
			do(&c)
			out = append(out, c)
		}
	}
	change(!w.cut && w.cuts > 0, func(c *rWorld) { c.cut = true; c.cuts-- })
	change(w.cut, func(c *rWorld) { c.cut = false })
	change(!w.down && w.downs > 0, func(c *rWorld) {
		c.down, c.n[0].runs, c.n[0].try = true, false, try{}
		c.downs--
	})
	change(w.down, func(c *rWorld) { c.down, c.unheard = false, 1<<rNodes-2 })
	return out
}

// live is what the job does where it runs: it ends, or moves to the next node.
func (v variant) live(w rWorld, i int8) (out []rWorld) {
	if !w.n[i].runs {
		return nil
	}
	c := w
	c.n[i].runs = false
	out = append(out, c)
	j := (i + 1) % rNodes
	to := &w.n[j]
	epoch := w.n[i].record + 1
	if w.moves == 0 || !w.works(j) || !w.linked(i, j) || w.alive(j) || epoch <= to.fence {
		return out
	}
	w.moves--
	w.n[i].runs, w.n[i].movedTo, w.n[i].record = false, j, epoch
	to.runs, to.record, to.fence, to.movedTo = true, epoch, epoch, -1
	return append(out, w)
}

// hear has the first node, which was down, hear what another has brought back past it.
func (v variant) hear(w rWorld, j int8) []rWorld {
	me, them := &w.n[0], w.n[j]
	if !w.works(0) || !w.unheard.has(j) || !w.linked(0, j) || them.try.begun && them.try.dead.has(0) {
		return nil
	}
	w.unheard = w.unheard.without(j)
	if them.owes.has(0) && them.owesFor > me.fence {
		me.fence, me.grantee = them.owesFor, j
	}
	return []rWorld{w}
}

// attempt is the next step of a node that brings the job back.
func (v variant) attempt(w rWorld, i int8) (out []rWorld) {
	me := &w.n[i]
	switch {
	case !me.try.active && w.tries > 0:
		c := w
		c.tries--
		c.n[i].try = try{active: true, todo: set(0).with(i).with(0)}
		return []rWorld{c}
	case !me.try.active:
		return nil
	}
	if w.crashes > 0 {
		c := w
		c.crashes--
		c.giveUp(i)
		out = append(out, c)
	}
	if todo := me.try.todo &^ me.try.asked &^ me.try.dead; todo != 0 && !me.try.begun {
		return append(out, v.ask(w, i, todo)...)
	}
	if me.try.dead != 0 && v.bystanders && !me.try.bystandersAsked {
		me.try.bystandersAsked = true
		me.try.todo = 1<<rNodes - 1
		return append(out, w)
	}
	if !me.try.begun {
		return append(out, v.begin(w, i))
	}
	if me.try.dead != 0 && !me.try.checked {
		return append(out, v.check(w, i))
	}
	for j := range int8(rNodes) {
		if j != i && me.try.asked.has(j) && !me.try.granted.has(j) {
			return append(out, v.askGrant(w, i, j)...)
		}
	}
	return append(out, v.commit(w, i))
}

func (v variant) ask(w rWorld, i int8, todo set) (out []rWorld) {
	for j := range int8(rNodes) {
		if !todo.has(j) {
			continue
		}
		c := w
		t := &c.n[i].try
		switch {
		case !c.works(j) || !c.linked(i, j):
			gaveUp := w
			gaveUp.giveUp(i)
			t.dead = t.dead.with(j) // an operator's word
			out = append(out, gaveUp)
		case c.alive(j) || v.deaf(&c, j):
			c.giveUp(i)
		default:
			t.asked, t.seen[j] = t.asked.with(j), c.n[j].fence
			if to := c.n[j].movedTo; to >= 0 {
				t.todo = t.todo.with(to)
			}
			if g := c.n[j].grantee; g >= 0 && v.askGrantee {
				t.todo = t.todo.with(g)
			}
		}
		out = append(out, c)
	}
	return out
}

// begin is where the node admits its own restore; from then on it is alive to who asks.
func (v variant) begin(w rWorld, i int8) rWorld {
	me := &w.n[i]
	if me.fence != me.try.seen[i] || me.runs || v.deaf(&w, i) {
		w.giveUp(i)
		return w
	}
	me.try.epoch = v.epoch(w, i)
	me.fence, me.try.begun = me.try.epoch, true
	return w
}

// check asks the dead once more, whom the node has noted to tell. The operator is wrong if they are up.
func (v variant) check(w rWorld, i int8) rWorld {
	me := &w.n[i]
	for j := range int8(rNodes) {
		if v.checkAgain && me.try.dead.has(j) && w.works(j) && w.linked(i, j) {
			w.giveUp(i)
			return w
		}
	}
	w.wrong = w.wrong || !w.down && v.checkAgain
	me.try.checked = true
	return w
}

// deaf tells whether a node knows nothing yet, because it went down.
func (v variant) deaf(w *rWorld, i int8) bool { return v.hearFirst && i == 0 && w.unheard != 0 }

func (v variant) epoch(w rWorld, i int8) int8 {
	top := int8(1) // the checkpoint's
	for j := range int8(rNodes) {
		if w.n[i].try.asked.has(j) {
			top = max(top, w.n[i].try.seen[j], w.n[j].record)
		}
	}
	if w.n[i].try.dead != 0 {
		return v.nextLine(top, i)
	}
	return top + 1
}

// askGrant is granted, refused, or not answered; then the request may still arrive later.
func (v variant) askGrant(w rWorld, i, j int8) (out []rWorld) {
	t := w.n[i].try
	for k := range w.late {
		if w.late[k].to < 0 {
			c := w
			c.late[k] = late{to: j, from: i, seen: t.seen[j], epoch: t.epoch}
			c.giveUp(i)
			out = append(out, c)
			break
		}
	}
	if !w.works(j) || !w.linked(i, j) {
		w.giveUp(i)
		return append(out, w)
	}
	if !v.grant(&w, j, late{from: i, seen: t.seen[j], epoch: t.epoch}) {
		w.giveUp(i)
		return append(out, w)
	}
	w.n[i].try.granted = t.granted.with(j)
	return append(out, w)
}

func (v variant) grant(w *rWorld, j int8, g late) bool {
	n := &w.n[j]
	if n.grantee == g.from && n.fence == g.epoch {
		return true // it has been said before
	}
	if w.alive(j) || v.deaf(w, j) || !v.grants(n.fence, g.seen, g.epoch) {
		return false
	}
	n.fence, n.grantee = g.epoch, g.from
	return true
}

func (v variant) deliver(w rWorld) (out []rWorld) {
	for k, g := range w.late {
		if g.to < 0 || !w.works(g.to) || !w.linked(g.to, g.from) {
			continue
		}
		c := w
		c.late[k].to = -1
		v.grant(&c, g.to, g)
		out = append(out, c)
	}
	return out
}

func (v variant) commit(w rWorld, i int8) rWorld {
	me := &w.n[i]
	me.runs, me.record, me.grantee, me.movedTo = true, me.try.epoch, i, -1
	if me.try.dead != 0 {
		me.owes, me.owesFor = me.owes|me.try.dead, me.try.epoch
	}
	me.try = try{}
	return w
}

func (w *rWorld) giveUp(i int8) { w.n[i].try = try{} }

// reconcile is what a node tells those that were declared dead, and asks of others.
func (v variant) reconcile(w rWorld, i int8) (out []rWorld) {
	for j := range int8(rNodes) {
		if j == i || !w.works(j) || !w.linked(i, j) {
			continue
		}
		if me := w.n[i]; v.listen && me.owes.has(j) && !w.n[j].try.begun {
			c := w
			them := &c.n[j]
			c.n[i].owes = me.owes.without(j)
			if v.supersedes(me.owesFor, them.record) {
				if them.movedTo >= 0 {
					c.n[i].owes = c.n[i].owes.with(them.movedTo).without(i)
				}
				them.runs = false
				if me.owesFor > them.fence {
					them.fence, them.grantee = me.owesFor, i
				}
			}
			out = append(out, c)
		}
		heard := w.n[j].record
		if !v.newsOfRunsOnly && w.n[j].grantee >= 0 {
			heard = max(heard, w.n[j].fence)
		}
		if v.listen && w.n[i].runs && v.supersedes(heard, w.n[i].record) && !w.n[j].try.begun {
			c := w
			c.n[i].runs = false
			c.lost = c.lost || !v.supersedes(w.n[j].record, w.n[i].record)
			out = append(out, c)
		}
	}
	return out
}
