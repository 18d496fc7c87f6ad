package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/store"
)

// cargo is what a sealed directory says about the job in it.
type cargo struct {
	Record job.Record      `json:"record"`
	Needs  preflight.Needs `json:"needs"`
}

// errLeftRunning ends a checkpoint whose job goes on: for the handoff that is a
// move given up at the last moment, and the way back is the same.
var errLeftRunning = errors.New("saved; the job goes on")

func (a *Agent) handleCheckpoint(w http.ResponseWriter, r *http.Request, c caller, rec job.Record) error {
	var req api.CheckpointRequest
	if err := decode(r, &req); err != nil {
		return err
	}
	if c.peer != "" {
		return &api.Error{Code: api.CodeUsage, Message: fmt.Sprintf("job %s runs on %s, and a checkpoint is written where the job runs", rec.ID, a.cfg.Node),
			Where: "on " + a.cfg.Node, Hint: "type `migrate checkpoint` there, or move the job here first with `migrate move`"}
	}
	if !filepath.IsAbs(req.Dir) {
		return &api.Error{Code: api.CodeUsage, Message: "the directory must be an absolute path"}
	}
	move := handoff.NewMoveID()
	release, err := a.claim(rec.ID, move)
	if err != nil {
		return err
	}
	defer release()
	dir, err := newDirectory(req.Dir, string(move), c)
	if err != nil {
		return &api.Error{Code: api.CodeFailed, Message: "the directory of the checkpoint cannot be made: " + err.Error(), Where: "on " + a.cfg.Node + ", running", Hint: "name a directory that does not exist yet, in one that you may write to: `migrate checkpoint JOB DIR`"}
	}
	defer dir.discard()
	s := &saving{a: a, rec: rec, req: req, id: move, dir: dir}
	w.Header().Set("Content-Type", "application/x-ndjson")
	s.tell = newAccount(&flusher{w, http.NewResponseController(w)}, rec.ID, string(move), s.sizes)
	res, err := s.run(r.Context())
	s.tell.end(res, err, release, dir.discard) // a file server that is away holds up this caller only
	return nil
}

// saving is one checkpoint of a job into a directory. It is a move whose peer is
// the directory.
type saving struct {
	a     *Agent
	rec   job.Record
	req   api.CheckpointRequest
	id    handoff.MoveID
	dir   *directory
	tell  *account
	dep   *departure
	needs preflight.Needs
	since time.Time // see handoff.Record

	recovering bool // its handler has ended, with the agent or before
}

// savingExtra is what the journal keeps of a checkpoint or restore, so that recovery knows it.
type savingExtra struct {
	Dir          string   `json:"dir"`
	LeaveRunning bool     `json:"leave_running,omitempty"`
	UID          uint32   `json:"uid"` // who asked for it
	GID          uint32   `json:"gid"`
	Groups       []uint32 `json:"groups,omitempty"`
	inode                 // of the directory
}

// extraOf is what the record of a checkpoint or restore holds of the agent.
func extraOf(rec handoff.Record) (x savingExtra, err error) {
	if err := json.Unmarshal(rec.Extra, &x); err != nil {
		return x, fmt.Errorf("%s %s of job %s: %w", rec.Kind, rec.Move, rec.Job, err)
	}
	return x, nil
}

func (s *saving) sizes(e *api.Event) {
	if s.dep != nil {
		e.Read, e.Total = s.dep.read.Load(), s.dep.total
	}
	e.Sent = s.dir.written()
}

func (s *saving) run(ctx context.Context) (*api.Result, error) {
	s.tell.enter(api.PhasePreflight, "")
	err := s.prepare(ctx)
	if s.dep != nil {
		defer s.dep.close()
		defer s.dir.giveUp() // nobody waits for its file system
	}
	if err != nil {
		return nil, s.explain(err)
	}
	s.dep.getReady(ctx)
	extra, err := json.Marshal(savingExtra{Dir: s.req.Dir, LeaveRunning: s.req.LeaveRunning, UID: s.dir.owner.uid, GID: s.dir.owner.gid, Groups: s.dir.owner.groups, inode: s.dir.id})
	if err != nil {
		return nil, err
	}
	rec := handoff.Record{Move: s.id, Kind: handoff.KindCheckpoint, Job: string(s.rec.ID), Peer: s.a.cfg.Node, Epoch: s.rec.Epoch, BootID: s.a.boot, Extra: extra, Since: s.since}
	defer s.a.pace.urgent()()
	outcome, err := s.a.engine().RunSource(ctx, rec, intoDirectory{s.dep, s.dir}, s)
	res := &api.Result{Job: s.rec.ID, Move: string(s.id), Node: s.a.cfg.Node, Dir: s.req.Dir, Epoch: s.rec.Epoch}
	if outcome != handoff.OutcomeMoved {
		s.a.pursueLater(s.id)
	}
	switch {
	case errors.Is(err, errLeftRunning) && outcome == handoff.OutcomeAborted:
		res.Downtime = s.dep.downtime()
		return res, nil
	case outcome == handoff.OutcomeMoved:
		res.Downtime = s.dep.downtime()
		return res, nil
	case outcome == handoff.OutcomeUnclean:
		res.CleanupLeft = err.Error()
		return res, nil
	case outcome == handoff.OutcomeInDoubt:
		return nil, withDiagnosis(&api.Error{Code: api.CodeInDoubt, Message: err.Error(), Where: "frozen on " + s.a.cfg.Node,
			Hint: "nothing is lost: the agent goes on by itself; `migrate ps` tells how it ended"}, err)
	}
	return nil, s.explain(err)
}

func (s *saving) prepare(ctx context.Context) error {
	err := s.a.mayBegin(s.rec)
	if err != nil {
		return err
	}
	s.since = untouchedUntil(s.rec)
	if s.dep, err = s.a.departureOf(ctx, s.rec, string(s.id), s.tell); err != nil {
		return err
	}
	if s.dep.src.Init == 0 {
		return s.a.notRunning(ctx, s.rec)
	}
	if err := s.a.awaitWhole(ctx, s.rec); err != nil {
		return err
	}
	if s.needs, err = s.dep.mayLeave(ctx); err != nil {
		return err
	}
	s.rec, err = s.a.nextEpoch(s.rec.ID)
	s.dep.rec, s.dep.kind, s.dep.saved, s.dep.hangUp = s.rec, handoff.KindCheckpoint, s.req.Dir, s.dir.giveUp
	for _, l := range s.dir.lanes {
		s.dep.out = append(s.dep.out, l)
	}
	return err
}

// intoDirectory is the job on its way into a directory.
type intoDirectory struct {
	*departure
	dir *directory
}

func (i intoDirectory) Transfer(ctx context.Context) error {
	i.dir.shut() // the journal knows of it by now
	return i.departure.Transfer(ctx)
}

// Prepare completes the directory: it is whole, or it is not there. That it is goes into
// the job's record, which nobody but root writes.
func (s *saving) Prepare(context.Context) error {
	body, err := json.Marshal(cargo{s.dep.traveller(), s.needs})
	if err != nil {
		return err
	}
	m := store.Manifest{Job: body, Node: s.a.cfg.Node, Epoch: s.rec.Epoch, Clock: s.dep.src.Clock()}
	if m.Kernel, err = kernelRelease(); err != nil {
		return err
	}
	m.CRIU = s.needs.CRIU
	if err := s.dir.seal(m, s.a.id.Sign); err != nil {
		return err
	}
	_, err = s.a.jobs.Update(s.rec.ID, func(r *job.Record) error {
		r.Sealed = string(s.id)
		return nil
	})
	if err != nil {
		return err
	}
	if s.req.LeaveRunning {
		return errLeftRunning
	}
	return nil
}

// Commit has nothing to do: the directory is on the disk.
func (s *saving) Commit(context.Context) error { return nil }

// Abort takes back a directory that the job has not left for. When the agent has
// started again meanwhile, the job goes on even if that fails.
func (s *saving) Abort(context.Context) error {
	if s.req.LeaveRunning && !s.recovering { // its handler does it
		return nil
	}
	if whole, err := s.whole(); err == nil && whole && s.req.LeaveRunning {
		return nil
	}
	err := s.dir.remove()
	if err != nil && s.recovering {
		s.a.log.Warn("a checkpoint that was given up stays", "dir", s.req.Dir, "err", err)
		return nil
	}
	return err
}

// Yield has nothing to do: an operator does not decide about a checkpoint.
func (s *saving) Yield(context.Context) error { return nil }

// Outcome is asked for after the node went down in a checkpoint. What lies in the directory
// by now is its user's to change, and says nothing: a directory that was whole and on the
// disk has the job, like any that its user loses later.
func (s *saving) Outcome(context.Context) (handoff.State, error) {
	whole, err := s.whole()
	switch {
	case err != nil:
		return "", err
	case whole:
		return handoff.StatePrepared, nil
	}
	return handoff.StateDropped, nil
}

// whole asks root's own record.
func (s *saving) whole() (bool, error) {
	rec, err := s.a.jobs.Get(s.rec.ID)
	if errors.Is(err, job.ErrNotFound) {
		return false, nil
	}
	return err == nil && rec.Sealed == string(s.id) && s.id != "", err
}

func (s *saving) explain(err error) error {
	var told *api.Error
	here := "on " + s.a.cfg.Node + ", running"
	if errors.As(err, &told) {
		if told.Where == "" {
			told.Where = here
		}
		told.Message = strings.Replace(told.Message, "refused the move", "refused the checkpoint", 1)
		return told
	}
	if errors.Is(err, context.Canceled) {
		return &api.Error{Code: api.CodeCancelled, Message: "cancelled; nothing was saved", Where: here}
	}
	return s.dep.aborted(err, here, "nothing was lost; remove the cause, then `migrate checkpoint` again")
}

// nextEpoch uses up an epoch of the job, so that this attempt is told from all
// others.
func (a *Agent) nextEpoch(id job.ID) (job.Record, error) {
	return a.jobs.Update(id, func(r *job.Record) error {
		r.Epoch++
		return nil
	})
}
