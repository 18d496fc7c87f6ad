package node

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// moveRecord is what the tests read of `inspect --json MOVE`.
type moveRecord struct {
	Move     string        `json:"move"`
	Job      string        `json:"job"`
	From     string        `json:"from"`
	To       string        `json:"to"`
	State    string        `json:"state"`
	Downtime time.Duration `json:"downtime"`
	Took     time.Duration `json:"took"`
	Sent     int64         `json:"sent"`
	Residue  int64         `json:"residue"`
	Mode     string        `json:"mode"`
	Phases   []struct {
		Phase string        `json:"phase"`
		Took  time.Duration `json:"took"`
	} `json:"phases"`
	Steps []struct {
		Node  string `json:"node"`
		State string `json:"state"`
	} `json:"steps"`
	Error *struct {
		Code string `json:"code"`
	} `json:"error"`
	WaitFor string `json:"wait_for"`
	Partial string `json:"partial"`
}

// moveSummary is what they read of `moves --json`.
type moveSummary struct {
	Move     string `json:"move"`
	Job      string `json:"job"`
	Role     string `json:"role"`
	Peer     string `json:"peer"`
	State    string `json:"state"`
	Finished bool   `json:"finished"`
	WaitFor  string `json:"wait_for"`
}

func (n *node) moves(flags ...string) (list []moveSummary) {
	n.c.t.Helper()
	r := n.migrate(append([]string{"moves", "--json"}, flags...)...).want(n.c.t, 0)
	if err := json.Unmarshal([]byte(r.out), &list); err != nil {
		n.c.t.Fatalf("%v: %v", err, r)
	}
	return list
}

func (n *node) moveRecord(move string) (r moveRecord) {
	n.c.t.Helper()
	res := n.migrate("inspect", "--json", move).want(n.c.t, 0)
	if err := json.Unmarshal([]byte(res.out), &r); err != nil {
		n.c.t.Fatalf("%v: %v", err, res)
	}
	return r
}

func TestMovesListsAMoveOnBothNodes(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "32")
	done := j.move(a, b)
	all := a.moves("--all")
	if len(all) != 1 || all[0].Job != j.id || all[0].Role != "source" || all[0].Peer != b.name || all[0].State != "released" || !all[0].Finished {
		t.Fatalf("the source lists %+v", all)
	}
	if open := a.moves(); len(open) != 0 {
		t.Errorf("unfinished: %+v", open)
	}
	for _, n := range c.nodes {
		r := n.moveRecord(all[0].Move)
		if r.State != "moved" || r.Job != j.id || r.From != a.name || r.To != b.name || r.Downtime != done.Done.Downtime || r.Sent != done.Done.Sent || r.Residue <= 0 || r.Residue >= r.Sent || r.Mode != "pre-copy" {
			t.Errorf("%s tells %+v of %+v", n.name, r, done.Done)
		}
		seen := map[string]bool{}
		for _, p := range r.Phases {
			seen[p.Phase] = true
		}
		for _, p := range []string{"preflight", "warm-up", "freeze", "dump", "residue", "park", "commit", "resume", "release"} {
			if !seen[p] {
				t.Errorf("%s does not tell of %s: %+v", n.name, p, r.Phases)
			}
		}
		if len(r.Steps) < 3 {
			t.Errorf("%s tells of the steps %+v", n.name, r.Steps)
		}
		if page := n.migrate("report", "-o", "-", r.Move).want(t, 0).out; strings.Count(page, "<svg") < 2 || !strings.Contains(page, j.id) {
			t.Errorf("the report on %s: %s", n.name, clip(page))
		}
	}
	// What was refused is on record, too.
	if r := b.migrate("move", j.id, "nowhere=127.0.0.1:1"); r.code == 0 {
		t.Fatal(r)
	}
	last := b.moves("--all")[0]
	if r := b.moveRecord(last.Move); r.State != "failed" || r.To != "nowhere" || r.Error == nil {
		t.Errorf("of the move to nowhere: %+v", r)
	}
	b.migrate("inspect", last.Move).want(t, 0)
	a.migrate("inspect", "mffffffffffffffff").want(t, 1).says(t, "no move", "migrate moves --all")
	j.runsOn(b)
}
