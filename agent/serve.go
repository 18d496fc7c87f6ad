package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// handler is a request whose caller is known.
type handler func(w http.ResponseWriter, r *http.Request, c caller) error

func (a *Agent) localHandler() http.Handler {
	return a.routes(func(r *http.Request) (caller, error) {
		c, ok := r.Context().Value(callerKey{}).(caller)
		if !ok {
			return c, errors.New("the kernel does not say who you are")
		}
		return c, nil
	})
}

func (a *Agent) routes(who func(*http.Request) (caller, error)) http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /v1/node":                   a.handleNode,
		"GET /v1/jobs":                   a.looking(a.handleList),
		"POST /v1/jobs":                  a.handleRun,
		"GET /v1/jobs/{job}":             a.onJob(a.lookingAt(a.handleInspect), a.inspectBroken),
		"GET /v1/jobs/{job}/wait":        a.onJob(a.handleWait),
		"GET /v1/jobs/{job}/logs":        a.onJob(a.handleLogs),
		"POST /v1/jobs/{job}/signal":     a.onJob(a.handleSignal, a.signalBroken),
		"POST /v1/jobs/{job}/exec":       a.onJob(a.whenRunning(a.handleExec, false)),
		"POST /v1/jobs/{job}/move":       a.onJob(a.handleMove),
		"POST /v1/jobs/{job}/checkpoint": a.onJob(a.handleCheckpoint),
		"DELETE /v1/jobs/{job}":          a.onJob(a.handleRemove, a.removeBroken),
		"POST /v1/restore":               a.handleRestore,
		"GET /v1/moves":                  a.looking(a.handleMoves),
		"GET /v1/moves/{move}":           a.looking(a.handleMoveRecord),
		"GET /v1/moves/{move}/resolve":   a.handleResolve,
		"POST /v1/moves/{move}/resolve":  a.handleResolve,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := a.admitted(w, r, who, pattern, h); err != nil {
				replyError(w, err)
			}
		})
	}
	return mux
}

// admitted answers a request, if its caller is known and has room for its body.
func (a *Agent) admitted(w http.ResponseWriter, r *http.Request, who func(*http.Request) (caller, error), pattern string, h handler) error {
	c, err := who(r)
	if err != nil {
		return &api.Error{Code: api.CodeForbidden, Message: err.Error()}
	}
	most := int64(maxBody)
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
type jobHandler func(w http.ResponseWriter, r *http.Request, c caller, rec job.Record) error

// onJob finds the job that a request names. One that has moved on is answered by
// the node that it moved to. For one whose record cannot be read there may be another
// handler.
func (a *Agent) onJob(h jobHandler, broken ...brokenHandler) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller) error {
		rec, err := a.find(r.Context(), r.PathValue("job"), c)
		var unread *job.RecordError
		switch {
		case errors.As(err, &unread) && len(broken) > 0:
			return broken[0](w, r, c, unread)
		case errors.As(err, &unread):
			return a.cannotRead(r.Context(), unread)
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
func (a *Agent) find(ctx context.Context, ref string, c caller) (job.Record, error) {
	if id, err := job.ParseID(ref); err == nil {
		rec, err := a.jobs.Get(id)
		var unread *job.RecordError
		switch {
		case errors.Is(err, job.ErrNotFound):
			return rec, notFound(ref)
		case errors.As(err, &unread) && !c.may(a.broken(unread)):
			return rec, forbidden()
		case err != nil:
			return rec, err
		case !c.may(rec):
			return rec, forbidden()
		}
		return rec, nil
	}
	done, err := a.look(a.life, c)
	if err != nil {
		return job.Record{}, err
	}
	defer done()
	recs, broken, err := a.jobs.ListAll()
	if err != nil {
		return job.Record{}, err
	}
	var found, others []job.Record
	for _, rec := range recs {
		switch {
		case ref == "" || rec.Spec.Name != ref || !c.may(rec):
		case rec.Spec.UID == c.uid:
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
func (a *Agent) unnamed(ref string, broken []*job.RecordError, c caller) error {
	for _, b := range broken {
		if c.may(a.broken(b)) {
			return &api.Error{Code: api.CodeDamaged, Message: fmt.Sprintf("no job is called %s, unless it is %s, whose record is damaged: %v", ref, b.ID, b.Err),
				Where: "on " + a.cfg.Node, Hint: "name it by its id; `migrate ps -a` lists what is damaged"}
		}
	}
	return notFound(ref)
}

// living prefers, among jobs of one name, the only one that is not over, wherever it is, or else the
// only one that has not come to its end: it is saved, or lost.
func (a *Agent) living(ctx context.Context, found []job.Record, ref string) (job.Record, error) {
	fates := a.fates(ctx, found, askTime)
	var alive, resting []job.Record
	for _, rec := range found {
		here, there := a.view(ctx, rec).State, fates[rec.ID].State
		switch {
		case here == api.JobExited || there == api.JobExited:
		case over(here) || over(there):
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

func decode(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return &api.Error{Code: api.CodeUsage, Message: "the request makes no sense: " + err.Error(), Hint: "are the command and the agent of the same version? see `migrate version`"}
	}
	return nil
}

func reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(hearingTime)) // a connection has deadlines
	_ = json.NewEncoder(w).Encode(v)                          // whoever asked may be gone by now
	_ = control.SetWriteDeadline(time.Time{})
	return nil
}

func replyError(w http.ResponseWriter, err error) {
	e := asError(err)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(e.Code.Status())
	_ = json.NewEncoder(w).Encode(e)
}

// asError gives every error the form in which it can be told.
func asError(err error) *api.Error {
	var e *api.Error
	if errors.As(err, &e) {
		return e
	}
	return &api.Error{Code: api.CodeFailed, Message: err.Error()}
}
