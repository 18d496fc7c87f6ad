package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

const maxBody = 8 << 20

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

func (a *Agent) peerHandler() http.Handler { return a.routes(peerCaller) }

func (a *Agent) routes(who func(*http.Request) (caller, error)) http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /v1/node":                   a.handleNode,
		"GET /v1/jobs":                   a.handleList,
		"POST /v1/jobs":                  a.handleRun,
		"GET /v1/jobs/{job}":             a.onJob(a.handleInspect, a.inspectBroken),
		"GET /v1/jobs/{job}/wait":        a.onJob(a.handleWait),
		"GET /v1/jobs/{job}/logs":        a.onJob(a.handleLogs),
		"POST /v1/jobs/{job}/signal":     a.onJob(a.handleSignal, a.signalBroken),
		"POST /v1/jobs/{job}/exec":       a.onJob(a.whenRunning(a.handleExec, false)),
		"POST /v1/jobs/{job}/move":       a.onJob(a.handleMove),
		"POST /v1/jobs/{job}/checkpoint": a.onJob(a.handleCheckpoint),
		"DELETE /v1/jobs/{job}":          a.onJob(a.handleRemove, a.removeBroken),
		"POST /v1/restore":               a.handleRestore,
		"GET /v1/moves":                  a.handleMoves,
		"GET /v1/moves/{move}":           a.handleMoveRecord,
		"GET /v1/moves/{move}/resolve":   a.handleResolve,
		"POST /v1/moves/{move}/resolve":  a.handleResolve,
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
			c, err := who(r)
			if err != nil {
				err = &api.Error{Code: api.Forbidden, Message: err.Error()}
			} else {
				err = h(w, r, c)
			}
			if err != nil {
				replyError(w, err)
			}
		})
	}
	return mux
}

// jobHandler is a request about a job that the caller may touch.
type jobHandler func(w http.ResponseWriter, r *http.Request, c caller, rec job.Record) error

// onJob finds the job that a request names. One that has moved on is answered by
// the node that it moved to. For one whose record cannot be read there may be another
// handler.
func (a *Agent) onJob(h jobHandler, broken ...brokenHandler) handler {
	return func(w http.ResponseWriter, r *http.Request, c caller) error {
		rec, err := a.find(r.PathValue("job"), c)
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

// find looks a job up by id or by a name that only one of the caller's has.
func (a *Agent) find(ref string, c caller) (job.Record, error) {
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
	recs, broken, err := a.jobs.ListAll()
	if err != nil {
		return job.Record{}, err
	}
	var found []job.Record
	for _, rec := range recs {
		if rec.Spec.Name == ref && c.may(rec) {
			found = append(found, rec)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return job.Record{}, a.unnamed(ref, broken, c)
	}
	return newest(found, ref)
}

// unnamed is the answer for a name that no job has whose record can be read.
func (a *Agent) unnamed(ref string, broken []*job.RecordError, c caller) error {
	for _, b := range broken {
		if c.may(a.broken(b)) {
			return &api.Error{Code: api.Damaged, Message: fmt.Sprintf("no job is called %s, unless it is %s, whose record is damaged: %v", ref, b.ID, b.Err),
				Where: "on " + a.cfg.Node, Hint: "name it by its id; `migrate ps -a` lists what is damaged"}
		}
	}
	return notFound(ref)
}

// newest prefers, among jobs of one name, the only one that is not over.
func newest(found []job.Record, ref string) (job.Record, error) {
	var alive []job.Record
	for _, rec := range found {
		if rec.Exit == nil {
			alive = append(alive, rec)
		}
	}
	if len(alive) == 1 {
		return alive[0], nil
	}
	return job.Record{}, &api.Error{Code: api.Usage, Message: "several jobs are called " + ref, Hint: "name one by its id; `migrate ps -a` lists them"}
}

func notFound(ref string) error {
	return &api.Error{Code: api.NotFound, Message: "no job " + ref + " is known on this node", Hint: "`migrate ps -a` lists the jobs that this node knows; ask on the node where it was started"}
}

func decode(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return &api.Error{Code: api.Usage, Message: "the request makes no sense: " + err.Error(), Hint: "are the command and the agent of the same version? see `migrate version`"}
	}
	return nil
}

func reply(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // whoever asked may be gone by now
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
	return &api.Error{Code: api.Failed, Message: err.Error()}
}
