package agent

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/shim"
	"github.com/migrate-hpc/migrate/timens"
)

// view is a job as the kernel and its shim see it now.
func (a *Agent) view(ctx context.Context, rec job.Record) api.Job {
	v := api.Job{Record: rec, Node: a.cfg.Node, State: api.JobRunning, CPU: rec.CPUBefore}
	switch {
	case rec.Exit != nil:
		v.State = api.JobExited
		v.CPU = rec.Exit.CPU
		return v
	case rec.MovedTo != nil:
		v.State = api.JobMoved
		return v
	case rec.SavedIn != "":
		v.State = api.JobSaved
		return v
	}
	st, err := a.status(ctx, rec.ID)
	if errors.Is(err, shim.ErrGone) {
		return a.vanished(v)
	}
	if err != nil { // it is busy, or suspended with its job
		v.State, v.SuspendedIn = a.stands(rec)
		return v
	}
	if st.Exit != nil { // the disk does not take it
		v.Exit, v.State = st.Exit, api.JobExited
		v.CPU += st.Exit.CPU
		return v
	}
	v.Init, v.Shim, v.Filled, v.Total = st.Init, st.Shim, st.Filled, st.Total
	if v.Absent = st.Absent; v.Absent > 0 {
		v.PulledFrom = cameFrom(rec)
	}
	cg := namespaces.Cgroup{Dirs: rec.Cgroup}
	v.CgroupDir = cg.Dir()
	if v.State, v.SuspendedIn = a.stands(rec); st.State == shim.Parked || st.State == shim.Waiting {
		v.State, v.SuspendedIn = api.JobArriving, ""
	}
	if used, err := cg.CPUTime(); err == nil {
		v.CPU += time.Duration(used)
	}
	v.Memory = residentMemory(&cg)
	return v
}

// status asks a job's shim, which has a second to answer.
func (a *Agent) status(ctx context.Context, id job.ID) (shim.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return a.shimOf(id).Status(ctx)
}

// vanished looks again before it calls a job lost: the shim writes down the end
// before it goes.
func (a *Agent) vanished(v api.Job) api.Job {
	rec, err := a.jobs.Get(v.ID)
	if err == nil && rec.Exit != nil {
		v.Record, v.State, v.CPU = rec, api.JobExited, rec.Exit.CPU
		return v
	}
	switch {
	case err == nil && rec.MovedTo != nil:
		v.Record, v.State = rec, api.JobMoved
		return v
	case err == nil && rec.SavedIn != "":
		v.Record, v.State = rec, api.JobSaved
		return v
	}
	v.State = api.JobLost
	if n, err := tasksOf(v.Record); err != nil || n > 0 {
		v.State, v.Tasks = api.JobAstray, max(n, 1) // what cannot be counted may be there
		cg := namespaces.Cgroup{Dirs: v.Cgroup}
		v.CgroupDir, v.Memory = cg.Dir(), residentMemory(&cg)
	}
	return v
}

func residentMemory(cg *namespaces.Cgroup) int64 {
	pids, err := cg.Pids()
	if err != nil {
		return 0
	}
	var pages int64
	for _, pid := range pids {
		data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "statm"))
		if f := strings.Fields(string(data)); err == nil && len(f) > 1 {
			n, _ := strconv.ParseInt(f[1], 10, 64)
			pages += n
		}
	}
	return pages * int64(os.Getpagesize())
}

func (a *Agent) handleList(w http.ResponseWriter, r *http.Request, c caller) error {
	recs, broken, err := a.jobs.ListAll()
	if err != nil {
		return err
	}
	recs = slices.DeleteFunc(recs, func(rec job.Record) bool { return !c.may(rec) })
	views := make([]api.Job, len(recs))
	fates := a.fates(r.Context(), recs, fateTime)
	var all errgroup.Group
	all.SetLimit(manyViews)
	for i, rec := range recs {
		all.Go(func() error {
			views[i] = a.view(r.Context(), rec)
			if f := fates[rec.ID]; views[i].State == api.JobMoved && over(f.State) {
				views[i].State, views[i].Exit = f.State, f.Exit
			}
			return nil
		})
	}
	_ = all.Wait() // none fails
	for _, b := range broken {
		a.log.Error("the record of a job cannot be read", "job", b.ID, "err", b.Err)
		if v := a.viewBroken(r.Context(), b); c.may(v.Record) {
			views = append(views, v)
		}
	}
	return reply(w, views)
}

// fateTime is how long a list waits for the nodes that jobs have gone to; those of a node that does
// not answer are shown as moved there.
const fateTime = time.Second

// manyViews is how many shims a list asks at a time: one that does not answer costs a
// second.
const manyViews = 16

func (a *Agent) handleInspect(w http.ResponseWriter, r *http.Request, _ caller, rec job.Record) error {
	v := a.view(r.Context(), rec)
	if v.Init == 0 {
		return reply(w, v)
	}
	// What the kernel does not tell, because the job ends just now, stays empty.
	v.Namespaces, _ = namespaces.Of(v.Init)
	v.Pids, _ = pidmap.InNamespace(v.Init)
	v.Clocks = clocksOf(v.Init)
	v.Caught = caughtBy(v.Init)
	return reply(w, v)
}

// caughtBy is the mask of signals that a process handles or blocks; PID 1 of a
// pid namespace gets no others but SIGKILL and SIGSTOP.
func caughtBy(pid int) *uint64 {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return nil
	}
	var mask uint64
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		if name != "SigCgt" && name != "SigBlk" {
			continue
		}
		bits, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
		if err != nil {
			return nil
		}
		mask |= bits
	}
	return &mask
}

func clocksOf(pid int) *api.Clocks {
	mono, boot, err := timens.Offsets(pid)
	if err != nil {
		return nil
	}
	now, err := timens.Host()
	if err != nil {
		return nil
	}
	in := now.In(mono, boot)
	return &api.Clocks{Monotonic: in.Monotonic, Boottime: in.Boottime, MonotonicOffset: mono, BoottimeOffset: boot}
}

// handleWait answers when the job has ended or left, or after a while, so that a
// broken connection does not go unnoticed for long.
func (a *Agent) handleWait(w http.ResponseWriter, r *http.Request, _ caller, rec job.Record) error {
	if err := a.untilOver(r.Context(), rec.ID, 20*time.Second); err != nil {
		return err
	}
	return a.replyJob(r.Context(), w, rec.ID)
}

// untilOver returns when the job is no longer here, ctx ends or the time is up.
func (a *Agent) untilOver(ctx context.Context, id job.ID, most time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for ctx.Err() == nil {
		rec, err := a.jobs.Get(id)
		if err != nil || !rec.Here() {
			return err
		}
		if st, err := a.shimOf(id).Status(ctx); gone(rec, err) {
			return nil
		} else if err == nil && st.Shim > 0 {
			awaitProcess(ctx, st.Shim, most)
		} else {
			time.Sleep(busyPause)
		}
	}
	return nil
}

// busyPause is how long a shim that does not answer is left alone.
const busyPause = 50 * time.Millisecond
