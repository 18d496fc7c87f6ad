package server

import (
	"net/http"
	"slices"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/agent/transfer"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
)

// handleMoves lists the moves that this node has a part in: those that are not
// finished, and with all=true the others too.
func (s *moveServer) handleMoves(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
	all := r.URL.Query().Get("all") == "true"
	recs, err := s.Journal.List()
	if err != nil {
		s.Log.Error("some moves cannot be read", logkey.Err, err)
	}
	list := []api.MoveSummary{}
	seen := map[string]bool{}
	for _, rec := range recs {
		seen[string(rec.Move)] = true
		whose, known := s.History.Whose(rec)
		if !c.Root() && !(known && c.CanAccess(whose)) {
			continue
		}
		if s := s.History.Summary(rec, whose.Spec.Name); all || !s.Finished {
			list = append(list, s)
		}
	}
	for _, d := range s.Journal.Damaged() {
		seen[d.Name] = true
		if c.Root() {
			list = append(list, api.MoveSummary{Move: d.Name, Job: job.ID(d.Job), Node: s.Config.Node, State: "damaged", Since: d.Changed, WaitFor: transfer.WaitsForLook(d), Note: d.Err.Error()})
		}
	}
	for _, kept := range s.Records.List() {
		unfinished := s.Leaving.IsActive(kept.Job, handoff.MoveID(kept.Move))
		if seen[kept.Move] || !c.Root() && kept.UID != c.UID || !all && !unfinished {
			continue
		}
		s.History.SettleRecord(&kept)
		list = append(list, transfer.SummaryOf(kept, s.Config.Node, !unfinished))
	}
	slices.SortStableFunc(list, func(x, y api.MoveSummary) int {
		if x.Finished != y.Finished {
			return map[bool]int{false: -1, true: 1}[x.Finished]
		}
		return y.Since.Compare(x.Since)
	})
	return httpjson.Reply(w, list)
}

// handleMoveRecord answers with the record of one move. The source keeps it; a node without one asks
// the source, and nodes to which jobs of the caller went.
func (s *moveServer) handleMoveRecord(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
	m, err := handoff.ParseMoveID(r.PathValue("move"))
	if err != nil {
		return transfer.MoveNotFound(r.PathValue("move"))
	}
	hops := caller.HopsOf(r)
	rec, err := s.History.MoveRecord(r.Context(), m, c, hops)
	if err != nil {
		return err
	}
	return httpjson.Reply(w, rec)
}
