package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/copies"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/job"
)

// find looks a job up by id, or by a name that one job of the caller has. A name never leads to
// another user's job, not for root either: users choose names, and agents ids.
func (s *Server) find(ctx context.Context, ref string, c caller.Caller) (job.Record, error) {
	if id, err := job.ParseID(ref); err == nil {
		rec, err := s.Jobs.Get(id)
		var unread *job.RecordError
		switch {
		case errors.Is(err, job.ErrNotFound):
			return rec, notFound(ref)
		case errors.As(err, &unread) && !c.CanAccess(s.DamagedRecord(unread)):
			return rec, caller.Forbidden()
		case err != nil:
			return rec, err
		case !c.CanAccess(rec):
			return rec, caller.Forbidden()
		}
		return rec, nil
	}
	done, err := s.awaitLook(s.Life, c)
	if err != nil {
		return job.Record{}, err
	}
	defer done()
	recs, broken, err := s.Jobs.ListAll()
	if err != nil {
		return job.Record{}, err
	}
	var found, others []job.Record
	for _, rec := range recs {
		switch {
		case ref == "" || rec.Spec.Name != ref || !c.CanAccess(rec):
		case rec.Spec.UID == c.UID:
			found = append(found, rec)
		default:
			others = append(others, rec)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && len(others) > 0:
		return job.Record{}, otherUsersJobs(others, ref)
	case len(found) == 0:
		return job.Record{}, s.nameNotFound(ref, broken, c)
	}
	return s.onlyAlive(ctx, found, ref)
}

// otherUsersJobs is the error that lists other users' jobs of a name to root: those here first, the
// newest first.
func otherUsersJobs(jobs []job.Record, ref string) error {
	slices.SortStableFunc(jobs, func(x, y job.Record) int {
		if x.Here() != y.Here() {
			return map[bool]int{true: -1, false: 1}[x.Here()]
		}
		return y.Created.Compare(x.Created)
	})
	const most = 8
	var who []string
	for _, rec := range jobs[:min(len(jobs), most)] {
		over := ""
		if !rec.Here() {
			over = ", not here any more"
		}
		who = append(who, fmt.Sprintf("%s (user %d%s)", rec.ID, rec.Spec.UID, over))
	}
	if len(jobs) > most {
		who = append(who, fmt.Sprintf("and %d more", len(jobs)-most))
	}
	return &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("you have no job called %s, and a name means a job of your own; another user's: %s", ref, strings.Join(who, ", ")),
		Hint: "the same command with the id: " + string(jobs[0].ID)}
}

// nameNotFound is the error for a name that no readable record has.
func (s *Server) nameNotFound(ref string, broken []*job.RecordError, c caller.Caller) error {
	for _, b := range broken {
		if c.CanAccess(s.DamagedRecord(b)) {
			return &api.Error{Code: api.CodeDamaged, Message: fmt.Sprintf("no job is called %s, unless it is %s, whose record is damaged: %v", ref, b.ID, b.Err),
				Where: "on " + s.Config.Node, Hint: "name it by its id; `migrate ps -a` lists what is damaged"}
		}
	}
	return notFound(ref)
}

// onlyAlive picks, among jobs of one name, the only one that runs, wherever it is, or else the only
// one that is saved or lost.
func (s *Server) onlyAlive(ctx context.Context, found []job.Record, ref string) (job.Record, error) {
	fates := s.Copies.Fates(ctx, found, httpjson.PeerTimeout)
	var alive, resting []job.Record
	for _, rec := range found {
		here, there := s.View(ctx, rec).State, fates[rec.ID].State
		switch {
		case here == api.JobExited || there == api.JobExited:
		case copies.Over(here) || copies.Over(there):
			resting = append(resting, rec)
		default:
			alive = append(alive, rec)
		}
	}
	for _, only := range [][]job.Record{alive, resting} {
		if len(only) == 1 {
			return only[0], nil
		}
		if len(only) > 1 {
			break
		}
	}
	return job.Record{}, &api.Error{Code: api.CodeUsage, Message: "several jobs are called " + ref, Hint: "name one by its id; `migrate ps -a` lists them"}
}

func notFound(ref string) error {
	return &api.Error{Code: api.CodeNotFound, Message: "no job " + ref + " is known on this node", Hint: "`migrate ps -a` lists the jobs that this node knows; ask on the node where it was started"}
}
