package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/copies"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/job"
)

// handler is a request whose caller is known.
type handler func(w http.ResponseWriter, r *http.Request, c caller.Caller) error

func (a *Server) LocalHandler() http.Handler {
	return a.routes(func(r *http.Request) (caller.Caller, error) {
		c, ok := r.Context().Value(caller.CallerKey{}).(caller.Caller)
		if !ok {
			return c, errors.New("the kernel does not say who you are")
		}
		return c, nil
	})
}

func (a *Server) routes(who func(*http.Request) (caller.Caller, error)) http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /v1/node":                   a.jobVerbs.handleNode,
		"GET /v1/jobs":                   a.looking(a.jobVerbs.handleList),
		"POST /v1/jobs":                  a.jobVerbs.handleRun,
		"GET /v1/jobs/{job}":             a.onJob(a.lookingAt(a.jobVerbs.handleInspect), a.jobVerbs.inspectBroken),
		"GET /v1/jobs/{job}/wait":        a.onJob(a.jobVerbs.handleWait),
		"GET /v1/jobs/{job}/logs":        a.onJob(a.jobVerbs.handleLogs),
		"POST /v1/jobs/{job}/signal":     a.onJob(a.jobVerbs.handleSignal, a.jobVerbs.signalBroken),
		"POST /v1/jobs/{job}/exec":       a.onJob(a.jobVerbs.whenRunning(a.jobVerbs.handleExec, false)),
		"POST /v1/jobs/{job}/move":       a.onJob(a.moveVerbs.handleMove),
		"POST /v1/jobs/{job}/checkpoint": a.onJob(a.moveVerbs.handleCheckpoint),
		"DELETE /v1/jobs/{job}":          a.onJob(a.jobVerbs.handleRemove, a.jobVerbs.removeBroken),
		"POST /v1/restore":               a.moveVerbs.handleRestore,
		"GET /v1/moves":                  a.looking(a.moveVerbs.handleMoves),
		"GET /v1/moves/{move}":           a.looking(a.moveVerbs.handleMoveRecord),
		"GET /v1/moves/{move}/resolve":   a.moveVerbs.handleResolve,
		"POST /v1/moves/{move}/resolve":  a.moveVerbs.handleResolve,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := a.admitted(w, r, who, pattern, h); err != nil {
				httpjson.ReplyError(w, err)
			}
		})
	}
	return mux
}

// admitted answers a request, if its caller is known and has room for its body.
func (a *Server) admitted(w http.ResponseWriter, r *http.Request, who func(*http.Request) (caller.Caller, error), pattern string, h handler) error {
	c, err := who(r)
	if err != nil {
		return &api.Error{Code: api.CodeForbidden, Message: err.Error()}
	}
	most := int64(httpjson.MaxBody)
	if carriesCommand[pattern] {
		most = api.MaxCommandBody
	}
	give, err := a.admitBody(w, r, c, most)
	if err != nil {
		return err
	}
	defer give()
	return h(w, r, c)
}

// carriesCommand are the requests that have arguments and environment in them.
var carriesCommand = map[string]bool{"POST /v1/jobs": true, "POST /v1/jobs/{job}/exec": true}

// jobHandler is a request about a job that the caller may touch.
type jobHandler func(w http.ResponseWriter, r *http.Request, c caller.Caller, rec job.Record) error

// onJob finds the job that a request names. One that has moved on is answered by
// the node that it moved to. For one whose record cannot be read there may be another
// handler.
func (a *Server) onJob(h jobHandler, broken ...brokenHandler) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller.Caller) error {
		rec, err := a.find(r.Context(), r.PathValue("job"), c)
		var unread *job.RecordError
		switch {
		case errors.As(err, &unread) && len(broken) > 0:
			return broken[0](w, r, c, unread)
		case errors.As(err, &unread):
			return a.jobVerbs.cannotRead(r.Context(), unread)
		}
		if err != nil {
			return err
		}
		if rec.MovedTo != nil {
			return a.passOn(w, r, c, rec)
		}
		return h(w, r, c, rec)
	}
}

// find looks a job up by id or by a name that only one of the caller's has. A name is never
// that of another user's job, not for root either: users choose names, and agents ids.
func (a *Server) find(ctx context.Context, ref string, c caller.Caller) (job.Record, error) {
	if id, err := job.ParseID(ref); err == nil {
		rec, err := a.Jobs.Get(id)
		var unread *job.RecordError
		switch {
		case errors.Is(err, job.ErrNotFound):
			return rec, notFound(ref)
		case errors.As(err, &unread) && !c.May(a.Broken(unread)):
			return rec, caller.Forbidden()
		case err != nil:
			return rec, err
		case !c.May(rec):
			return rec, caller.Forbidden()
		}
		return rec, nil
	}
	done, err := a.look(a.Life, c)
	if err != nil {
		return job.Record{}, err
	}
	defer done()
	recs, broken, err := a.Jobs.ListAll()
	if err != nil {
		return job.Record{}, err
	}
	var found, others []job.Record
	for _, rec := range recs {
		switch {
		case ref == "" || rec.Spec.Name != ref || !c.May(rec):
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
		return job.Record{}, anothers(others, ref)
	case len(found) == 0:
		return job.Record{}, a.unnamed(ref, broken, c)
	}
	return a.living(ctx, found, ref)
}

// anothers tells root whose jobs have a name: first those that are here, the newest first.
func anothers(jobs []job.Record, ref string) error {
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

// unnamed is the answer for a name that no job has whose record can be read.
func (a *Server) unnamed(ref string, broken []*job.RecordError, c caller.Caller) error {
	for _, b := range broken {
		if c.May(a.Broken(b)) {
			return &api.Error{Code: api.CodeDamaged, Message: fmt.Sprintf("no job is called %s, unless it is %s, whose record is damaged: %v", ref, b.ID, b.Err),
				Where: "on " + a.Config.Node, Hint: "name it by its id; `migrate ps -a` lists what is damaged"}
		}
	}
	return notFound(ref)
}

// living prefers, among jobs of one name, the only one that is not over, wherever it is, or else the
// only one that has not come to its end: it is saved, or lost.
func (a *Server) living(ctx context.Context, found []job.Record, ref string) (job.Record, error) {
	fates := a.Copies.Fates(ctx, found, httpjson.AskTime)
	var alive, resting []job.Record
	for _, rec := range found {
		here, there := a.View(ctx, rec).State, fates[rec.ID].State
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
