package server

import (
	"encoding/json"
	"errors"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

// listed is a job as `migrate ps` gets it, with an empty state if it is not listed.
func (s *Server) listed(t *testing.T, id job.ID) api.Job {
	t.Helper()
	w := answer(s, nodetest.Operator, httptest.NewRequest("GET", "/v1/jobs", nil))
	var all []api.Job
	if err := json.Unmarshal(w.Body.Bytes(), &all); err != nil {
		t.Fatal(err, w.Body)
	}
	for _, j := range all {
		if j.ID == id {
			return j
		}
	}
	return api.Job{}
}

func TestJobsThatLeftAreListedAsTheyAreNow(t *testing.T) {
	defer func(was time.Duration) { fateTime = was }(fateTime)
	fateTime = time.Minute
	all := peers(t, "from", "to", "beyond")
	from, to, beyond := all[0], all[1], all[2]
	const epoch = 5 // of the restores
	grant := func(id job.ID, node string) {
		if err := from.Fence.Grant(string(id), 0, handoff.Grant{Epoch: epoch, Node: node, Addr: from.Config.Peers[node]}); err != nil {
			t.Fatal(err)
		}
	}
	left := func(node string) *job.Moved { return &job.Moved{Node: node, Addr: from.Config.Peers[node]} }
	over := func(r *job.Record) { r.Epoch, r.Exit = epoch, &job.Exit{Code: 7} }
	for name, c := range map[string]struct {
		moved   bool              // or saved
		granted string            // the node that may restore it
		to      func(*job.Record) // its record there; nil = none
		beyond  func(*job.Record) // and on the next node
		want    api.JobState
		node    string // that it is said to be on
	}{
		"moved, and forgotten there":         {moved: true},
		"moved, and over":                    {moved: true, to: over, want: api.JobExited, node: "to"},
		"moved on, and over":                 {moved: true, to: func(r *job.Record) { r.MovedTo = left("beyond") }, beyond: over, want: api.JobExited, node: "beyond"},
		"moved, and saved there":             {moved: true, to: func(r *job.Record) { r.SavedIn = "/saved" }, want: api.JobSaved, node: "to"},
		"moved to a node that is down":       {moved: true, granted: "down", want: api.JobMoved, node: "down"},
		"saved":                              {want: api.JobSaved},
		"saved, restored, and over":          {granted: "to", to: over, want: api.JobExited, node: "to"},
		"saved, restored, and moved on":      {granted: "to", to: func(r *job.Record) { r.Epoch, r.MovedTo = epoch, left("beyond") }, beyond: over, want: api.JobExited, node: "beyond"},
		"saved, and not restored there":      {granted: "to", want: api.JobSaved},
		"saved, and an older copy was there": {granted: "to", to: func(r *job.Record) { r.Exit = &job.Exit{Code: 7} }, want: api.JobSaved},
		"saved, granted to a node down":      {granted: "down", want: api.JobSaved},
		"saved, and on the way back":         {granted: "to", to: func(r *job.Record) { r.Epoch, r.MovedTo = epoch, left("from") }, want: api.JobSaved},
	} {
		t.Run(name, func(t *testing.T) {
			rec := nodetest.Known(t, from.Node, func(r *job.Record) {
				switch {
				case c.moved && c.granted != "":
					r.MovedTo = &job.Moved{Node: c.granted, Addr: "127.0.0.1:1"}
				case c.moved:
					r.MovedTo = left("to")
				default:
					r.SavedIn = "/saved"
				}
			})
			if !c.moved && c.granted != "" {
				grant(rec.ID, c.granted)
			}
			for node, edit := range map[*Server]func(*job.Record){to: c.to, beyond: c.beyond} {
				if edit != nil {
					nodetest.Known(t, node.Node, func(r *job.Record) { r.ID = rec.ID; edit(r) })
				}
			}
			j := from.listed(t, rec.ID)
			node := ""
			if j.MovedTo != nil {
				node = j.MovedTo.Node
			}
			for range 2 { // what it forgets it does not list again
				if j = from.listed(t, rec.ID); c.want == "" && j.State != "" || c.want != "" && (j.State != c.want || node != c.node) {
					t.Errorf("it is %q on %q", j.State, node)
				}
			}
			if _, err := from.Jobs.Get(rec.ID); errors.Is(err, job.ErrNotFound) != (c.want == "") {
				t.Errorf("its record: %v", err)
			}
			if j.State == api.JobExited && (j.Exit == nil || j.Exit.Code != 7) {
				t.Errorf("it ended: %+v", j.Exit)
			}
		})
	}
}

func TestAJobThatComesBackIsNotForgotten(t *testing.T) {
	all := peers(t, "from", "to")
	from := all[0]
	rec := nodetest.Known(t, from.Node, nil)
	stale := rec
	stale.MovedTo = &job.Moved{Node: "to", Addr: from.Config.Peers["to"]}
	from.Copies.Fates(testenv.Bounded(t), []job.Record{stale}, testenv.Patience)
	if _, err := from.Jobs.Get(rec.ID); err != nil {
		t.Error(err)
	}
}
