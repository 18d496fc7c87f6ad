package launch

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/httpjson"
	"github.com/migrate-hpc/migrate/humanize"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/output"
	"github.com/migrate-hpc/migrate/preflight"
)

// Bounds of what the jobs of one user keep on a node; root has none. Jobs that have ended count
// until they are removed.
const (
	MostAlive   = 256
	mostJobs    = 4096
	mostRecords = 16 << 20 // bytes of records: arguments and environment, above all
)

// Admit lets a user start one more job, unless a quota is reached: api.CodeQuota. done must be
// called once the job has a record.
func (l *Launcher) Admit(uid uint32) (done func(), err error) {
	if uid == 0 {
		return func() {}, nil
	}
	l.mu.Lock()
	if l.starting == nil {
		l.starting = map[uint32]int{}
	}
	starting := l.starting[uid]
	l.starting[uid]++
	l.mu.Unlock()
	done = func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.starting[uid]--; l.starting[uid] == 0 {
			delete(l.starting, uid)
		}
	}
	if why := l.quotaReached(uid, starting, ""); why != "" {
		done()
		return nil, &api.Error{Code: api.CodeQuota, Message: why, Where: caller.NotStarted,
			Hint: "`migrate ps -a` lists your jobs here; `migrate rm JOB` forgets one that is over, and its output"}
	}
	return done, nil
}

// quotaReached says which quota keeps the user from another job, "" for none. The job known, if it
// has a record here, is not counted twice.
func (l *Launcher) quotaReached(uid uint32, starting int, known job.ID) string {
	all, err := l.Usage.ByUser()
	room, roomErr := output.RoomAt(l.Paths.Jobs())
	if err = errors.Join(err, roomErr); err != nil {
		l.Log.Error("what users keep cannot be told", logkey.Err, err)
		return "" // a full disk refuses the job by itself
	}
	k := all[uid]
	if _, err := l.Jobs.Get(known); err == nil {
		k.Jobs--
	}
	switch {
	case k.Alive+starting >= MostAlive:
		return fmt.Sprintf("%d jobs of yours run on %s, and no user may have more", k.Alive, l.Config.Node)
	case k.Jobs+starting >= mostJobs:
		return fmt.Sprintf("%d jobs of yours are kept on %s, those that are over included, and no user may have more", k.Jobs, l.Config.Node)
	case k.Records >= mostRecords:
		return fmt.Sprintf("the records of your jobs on %s take %s, and no user's may take more", l.Config.Node, humanize.Size(k.Records))
	case k.Output > room.Share():
		return fmt.Sprintf("%s of output of your jobs is kept on %s, and no user may keep more than %s there when another one starts", humanize.Size(k.Output), l.Config.Node, humanize.Size(room.Share()))
	}
	return ""
}

// QuotaFindings is preflight's finding on a target where the user has reached a quota.
func (l *Launcher) QuotaFindings(rec job.Record) []preflight.Finding {
	if rec.Spec.UID == 0 {
		return nil
	}
	why := l.quotaReached(rec.Spec.UID, 0, rec.ID)
	if why == "" {
		return nil
	}
	return []preflight.Finding{{Code: preflight.QuotaReached, Cause: why, Remedy: "forget jobs that are over there with `migrate rm JOB`, or name another node"}}
}

// diskFullTime is how long a start waits while the disk is full. Output that fills it is found and
// cut within seconds.
const diskFullTime = 10 * time.Second

// Launch starts a job, and tries again for diskFullTime while the disk is full.
func (l *Launcher) Launch(ctx context.Context, rec job.Record, c caller.Caller) error {
	ctx, cancel := context.WithTimeout(ctx, diskFullTime)
	defer cancel()
	for {
		err := l.launchOnce(ctx, rec, c)
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(httpjson.BusyPause):
		}
	}
}

// trimEvery is how often TrimOutput checks the output of jobs that have ended.
const trimEvery = 30 * time.Second

// TrimOutput cuts output of jobs that have ended to its limit, again and again until ctx ends.
func (l *Launcher) TrimOutput(ctx context.Context) {
	tick := time.NewTicker(trimEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		cut, err := l.Usage.Trim()
		for _, id := range cut {
			l.Log.Warn("a process outside of a job that is over writes on into its output, which was cut to its limit", logkey.Job, id)
		}
		if err != nil {
			l.Log.Error("output of jobs that are over", logkey.Err, err)
		}
	}
}

// SealOutput fails while a process still holds output of a job open: removed files would go on
// taking room.
func (l *Launcher) SealOutput(id job.ID) error {
	err := output.Seal(l.IODir(id))
	if errors.Is(err, output.ErrHeld) {
		return &api.Error{Code: api.CodeFailed, Message: fmt.Sprintf("job %s was not removed: %v", id, err), Where: "over",
			Hint: fmt.Sprintf("end that process; root finds it with `fuser -v %s/*`", l.IODir(id))}
	}
	return err
}
