package node

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fault is one cell of the matrix: something bad that happens to one side of a
// move at one moment.
type fault struct {
	side  string // source or target: where the point is, and whom the harm befalls
	point string // package failpoint
	harm  string
	lead  string // a fault on that side, or "SIDE:FAULT" on the other, without which the move would not get to the point
}

func (x fault) String() string { return x.harm + " at " + x.point }

// The harms.
const (
	killAgent = "kill the agent"
	killBoth  = "kill both agents"
	killCRIU  = "kill CRIU"
	killShim  = "kill the shim"
	cutLink   = "cut the link"
	swallow   = "swallow all packets"
	fullDisk  = "fill the disk"
	failDisk  = "fail the disk"
)

var harms = []string{killAgent, killBoth, killCRIU, killShim, cutLink, swallow, fullDisk, failDisk}

// A move gets into these states only after something else has gone wrong.
var leads = map[string]string{
	"source.aborting": "dump.ended 1 eio", "source.aborted": "dump.ended 1 eio", "target.dropped": "pages.received 1 eio",
}

// moments are the points around every record, and the telling ones in between.
func moments() (all []fault) {
	for side, states := range map[string][]string{
		"source": {"frozen", "committed", "aborting", "aborted", "released"},
		"target": {"receiving", "prepared", "committed", "done", "dropped"},
	} {
		for _, state := range states {
			for _, when := range []string{"before", "after"} {
				name := side + "." + state
				all = append(all, fault{side: side, point: when + "." + name, lead: leads[name]})
			}
		}
	}
	return append(all,
		fault{side: "source", point: "criu.pre-dump"}, fault{side: "source", point: "criu.post-dump"},
		fault{side: "source", point: "dump.ended"}, fault{side: "source", point: "images.sent"}, fault{side: "source", point: "pages.sent"},
		fault{side: "source", point: "shim.released"},
		fault{side: "target", point: "pages.received"}, fault{side: "target", point: "criu.setup-namespaces"},
		fault{side: "target", point: "criu.post-restore"}, fault{side: "target", point: "shim.parked"}, fault{side: "target", point: "shim.resumed"})
}

// there is no CRIU but at these points.
var withCRIU = []string{"criu.pre-dump", "criu.post-dump", "criu.setup-namespaces", "criu.post-restore", "shim.parked",
	"before.target.prepared", "after.target.prepared", "before.target.committed", "after.target.committed"}

// there is no shim yet, or no more, at these.
var withoutShim = []string{"before.target.receiving", "after.target.receiving", "before.target.dropped", "after.target.dropped", "pages.received", "before.source.released", "after.source.released"}

// theMatrix is every harm at every moment.
func theMatrix() (all []fault) {
	for _, m := range moments() {
		for _, harm := range harms {
			m.harm = harm
			if m.harm == killCRIU && !slices.Contains(withCRIU, m.point) || m.harm == killShim && slices.Contains(withoutShim, m.point) {
				continue
			}
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b fault) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// telling are the cells that differ most from each other.
func telling() []fault {
	return picked(map[string][]string{
		killAgent: {"after.source.frozen", "images.sent", "before.source.committed", "after.source.committed", "before.source.released", "after.source.aborting",
			"after.target.receiving", "criu.post-restore", "before.target.prepared", "after.target.prepared", "after.target.committed", "before.target.done", "before.target.dropped"},
		killBoth: {"after.source.committed", "after.target.prepared"},
		killCRIU: {"criu.post-dump", "criu.post-restore", "after.target.prepared"},
		killShim: {"after.source.frozen", "before.source.released", "criu.post-restore", "after.target.prepared"},
		cutLink:  {"pages.sent", "before.target.prepared", "after.source.committed", "before.target.done"},
		swallow:  {"after.target.prepared", "after.source.committed"},
		fullDisk: {"before.source.frozen", "before.target.prepared", "before.target.done"},
		failDisk: {"before.source.committed", "before.target.committed"},
	})
}

// tellingLive are those in which a live move may differ from one that stops the job
// first.
func tellingLive() []fault {
	return picked(map[string][]string{
		killAgent: {"after.source.frozen", "criu.post-dump", "after.source.committed", "after.target.receiving", "pages.received", "after.target.committed"},
		killBoth:  {"after.target.prepared"},
		killCRIU:  {"criu.pre-dump"},
		killShim:  {"after.target.prepared"},
		cutLink:   {"pages.received", "after.source.frozen", "before.target.committed"},
		swallow:   {"images.sent"},
		fullDisk:  {"after.target.prepared"},
		failDisk:  {"before.source.committed"},
	})
}

// tellingPulls are those in which a move may differ that leaves memory behind until it
// is committed.
func tellingPulls() []fault {
	return picked(map[string][]string{
		killAgent: {"images.sent", "after.target.prepared", "before.target.committed", "after.source.committed", "after.target.done", "before.source.released"},
		killBoth:  {"after.source.committed"},
		killCRIU:  {"after.target.prepared"},
		killShim:  {"after.target.prepared"},
		cutLink:   {"after.source.committed", "after.target.done"},
		swallow:   {"before.source.released"},
		fullDisk:  {"before.target.done"},
		failDisk:  {"before.source.committed"},
	})
}

func picked(points map[string][]string) (some []fault) {
	for _, x := range theMatrix() {
		if slices.Contains(points[x.harm], x.point) {
			some = append(some, x)
		}
	}
	return some
}

// chosen are all cells with MIGRATE_MATRIX=all, those whose name has a given text
// in it, or the few.
func chosen(few []fault) []fault {
	want := os.Getenv("MIGRATE_MATRIX")
	switch want {
	case "":
		return few
	case "all":
		return theMatrix()
	}
	return slices.DeleteFunc(theMatrix(), func(x fault) bool { return !strings.Contains(x.String(), want) })
}

func TestMoveFaultsLeaveOneCopyAndNothingBehind(t *testing.T) {
	t.Parallel()
	for mode, of := range map[string]struct {
		flags []string
		few   []fault
	}{
		"stop-copy": {[]string{"--stop-copy"}, telling()},
		"pre-copy":  {nil, tellingLive()},
		"post-copy": {[]string{"--stop-copy", "--post-copy"}, tellingPulls()},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			m := newMatrix(newCluster(t, 2, withFaults), of.flags...)
			for _, x := range chosen(of.few) {
				if m.on == nil {
					m.renew()
				}
				m.c.run(strings.ReplaceAll(x.String(), " ", "-"), func(t *testing.T) { m.try(t, x) })
			}
			m.settleDown(t)
		})
	}
}

// matrix is a cluster on which one case after the other is tried, with one job as
// long as it lives.
type matrix struct {
	c     *cluster
	flags []string // of move
	j     *job
	on    *node
	was   censuses
}

func newMatrix(c *cluster, flags ...string) *matrix {
	m := &matrix{c: c, flags: flags, was: censuses{}}
	m.renew()
	return m
}

// renew starts a job in place of one that a case has cost, and remembers what it
// looks like on either node.
func (m *matrix) renew() {
	m.c.t.Helper()
	if m.j != nil {
		m.j.t = m.c.t
		m.j.remove(m.c)
	}
	m.on = m.c.nodes[0]
	for _, n := range m.c.nodes {
		n.plan()
	}
	m.j = m.on.oracle("--mem", "24", "--tree", "2", "--sysv", "--mqueue")
	for range m.c.nodes {
		to := m.c.otherThan(m.on)
		m.j.move(m.on, to, m.flags...)
		m.on = to
		m.j.runsOn(to)
		m.was.take(m.j, to)
	}
}

func (m *matrix) settleDown(t *testing.T) {
	t.Helper()
	m.j.t = t
	if m.on == nil { // the last case cost the job
		return
	}
	m.j.state(m.on)
	m.j.finish(m.on)
}

func (m *matrix) try(t *testing.T, x fault) {
	t.Cleanup(func() {
		if t.Failed() {
			for _, n := range m.c.nodes {
				n.plan()
			}
			m.c.report()
			m.on = nil
		}
	})
	m.j.t = t
	before := m.j.judge(m.on)
	from, to := m.on, m.c.otherThan(m.on)
	m.on = nil // until proven
	r := m.inject(x, from, to)
	on := m.fate(x, from, to)
	if on == nil {
		return
	}
	wantOutcome(t, r, on, from)
	after := m.j.ticks(on, 20)
	if after.Last.Counter <= before.Last.Counter {
		t.Errorf("the counter went from %d to %d", before.Last.Counter, after.Last.Counter)
	}
	if said := m.j.stderr(on); said != "" {
		t.Errorf("the job says %s", said)
	}
	m.was.compare(m.j, on)
	m.on = on
}

// inject moves the job during a fault, then repairs what can be repaired.
func (m *matrix) inject(x fault, from, to *node) result {
	m.c.t.Helper()
	victim, other := from, to
	if x.side == "target" {
		victim, other = to, from
	}
	action := "pause"
	if x.harm == killAgent && !strings.HasPrefix(x.point, "shim.") {
		action = "kill"
	}
	plan := []string{x.point + " 1 " + action}
	if x.lead != "" {
		plan = append(plan, x.lead)
	}
	other.plan()
	victim.plan(plan...)
	p := from.spawn(append([]string{"move", "--verify", "--force", m.j.id, to.name}, m.flags...)...)
	if err := victim.awaitHit(x.point, p); err != nil {
		m.c.t.Fatal(err)
	}
	m.befall(x, victim, other)
	select {
	case <-p.ended:
	case <-time.After(2 * time.Second):
	}
	m.heal(victim)
	r := p.wait()
	for _, n := range m.c.nodes {
		n.plan()
	}
	return r
}

// befall does the harm, and lets the victim go on.
func (m *matrix) befall(x fault, victim, other *node) {
	m.c.t.Helper()
	var plan []string
	switch x.harm {
	case killAgent:
		victim.kill()
	case killBoth:
		victim.kill()
		other.kill()
	case killCRIU:
		m.end(victim.criuOf(m.j)...)
	case killShim:
		m.end(victim.shimOf(m.j.id))
	case cutLink:
		m.c.cut(m.c.nodes[min(victim.number, other.number)-1])
	case swallow:
		for _, n := range []*node{victim, other} {
			n.in("nft", "add table inet fault; add chain inet fault in { type filter hook input priority 0; policy drop; }").want(m.c.t, 0)
		}
	case fullDisk:
		plan = []string{"write.* 1+ enospc"}
	case failDisk:
		plan = []string{"sync.*.journal 1+ eio"}
	}
	victim.amend(plan...)
}

func (m *matrix) end(pids ...int) {
	m.c.t.Helper()
	if len(pids) == 0 || pids[0] == 0 {
		m.c.t.Fatal("there is nothing to kill")
	}
	for _, pid := range pids {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			m.c.t.Errorf("kill %d: %v", pid, err)
		}
	}
}

func (m *matrix) heal(victim *node) {
	m.c.t.Helper()
	victim.amend()
	for _, n := range m.c.nodes[1:] {
		m.c.join(m.c.nodes[n.number-2])
	}
	for _, n := range m.c.nodes {
		n.in("nft", "add table inet fault; delete table inet fault").want(m.c.t, 0)
		select {
		case <-n.agent.ended:
			n.start()
		default:
		}
	}
}

// fate is the node that the job runs on in the end. A job that lost the shim that
// was its parent there is lost, and is removed: then nil.
func (m *matrix) fate(x fault, from, to *node) *node {
	m.c.t.Helper()
	if x.harm != killShim {
		return m.j.settled(m.c)
	}
	var on *node
	victim := map[string]*node{"source": from, "target": to}[x.side]
	eventually(m.c.t, limit, func() error {
		if on = nil; m.lost(victim) {
			return m.j.atMostOnce(m.c)
		}
		for _, n := range m.c.nodes {
			if m.j.whereabouts(n) == nil {
				on = n
				return m.j.oneCopy(m.c)
			}
		}
		return fmt.Errorf("the job neither runs nor is lost on %s", victim.name)
	})
	if on == nil {
		m.j.judge(victim)
		m.j.remove(m.c)
	}
	return on
}

func (m *matrix) lost(on *node) bool {
	for _, v := range on.jobs() {
		if v.ID == m.j.id {
			return v.State == "lost" || v.State == "astray"
		}
	}
	return false
}

// criuOf finds the node's CRIU that works on the job: a child of the agent while
// it dumps, one of the shim while it restores. It writes what it does over its
// command line.
func (n *node) criuOf(j *job) (pids []int) {
	n.c.t.Helper()
	parents := []int{n.agent.cmd.Process.Pid}
	if shim := n.shimOf(j.id); shim != 0 {
		parents = append(parents, shim)
	}
	for _, parent := range parents {
		for _, pid := range childrenOf(parent) {
			if line := processLine(pid); strings.Contains(line, " swrk ") || strings.Contains(line, " --rpc") {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
