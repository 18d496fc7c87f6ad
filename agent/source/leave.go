package source

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/checkpoint"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/preflight"
)

// CheckLeave is what the job needs of its target. It fails with preflight's findings if the job cannot
// leave.
func (j *Job) CheckLeave(ctx context.Context) (preflight.Needs, error) {
	if err := j.checkSuspended(); err != nil {
		return preflight.Needs{}, err
	}
	look, err := preflight.CheckJob(ctx, j.Rec, j.Src.Init, j.Src.Cgroup, j.Src.CRIU)
	if err != nil {
		return preflight.Needs{}, err
	}
	j.seen = look
	needs, findings := look.Needs, look.Findings
	needs.Eager = j.Src.Eager
	if needs.CPUs, err = affinity.BoundIn(j.Src.Init); err != nil {
		return needs, err
	}
	needs.KeepCPUs = j.Src.Affinity == affinity.Keep
	short, err := preflight.CheckImageRoom(needs, j.sources.Paths.Memory)
	if findings = append(findings, short...); err == nil && len(findings) > 0 {
		err = peer.Refused(AsFindings(findings))
	}
	return needs, err
}

// CheckAgain looks at the job once more before the freeze, after a warm-up that may have been long.
// It asks the target for files that the job has opened meanwhile.
func (j *Job) CheckAgain(ctx context.Context) (err error) {
	for range Looks {
		if err = j.checkAgain(ctx); !AreFleeting(err) {
			break
		}
	}
	return err
}

// Looks is how often a job is looked at whose files have gone when the target looks for them: some
// programs, such as databases, make and remove a file all the time.
const Looks = 6

// AreFleeting tells whether files are all that a refusal lacks.
func AreFleeting(err error) bool {
	var refused *api.Error
	return errors.As(err, &refused) && len(refused.Findings) > 0 &&
		!slices.ContainsFunc(refused.Findings, func(f api.Finding) bool { return f.Code != string(preflight.FileMissing) })
}

func (j *Job) checkAgain(ctx context.Context) error {
	look, err := preflight.LookAt(ctx, j.Rec, j.Src.Init, j.Src.Cgroup)
	if err != nil {
		return err
	}
	if len(look.Findings) > 0 {
		return meanwhile(AsFindings(look.Findings))
	}
	if err := j.askFiles(ctx, j.seen.Needs.Lacks(look.Needs.Files)); err != nil {
		return err
	}
	j.seen = look
	return nil
}

// checkNews looks for what the job has come to hold between the last look and the freeze.
func (j *Job) checkNews(ctx context.Context) error {
	if j.seen == nil { // recovery freezes a job to end it
		return nil
	}
	type news struct {
		files    []preflight.File
		findings []preflight.Finding
		err      error
	}
	look, seen := j.seen, make(chan news, 1)
	go func() {
		files, findings, err := look.News(ctx)
		seen <- news{files, findings, err}
	}()
	select {
	case n := <-seen:
		if n.err == nil && len(n.findings) > 0 {
			n.err = meanwhile(AsFindings(n.findings))
		}
		j.news = n.files
		return n.err
	case <-ctx.Done(): // the job does not stay frozen for a file server that does not answer
		return fmt.Errorf("look for files that the job has opened meanwhile: %w", context.Cause(ctx))
	}
}

// askNews asks the target for the files of checkNews while CRIU works.
func (j *Job) askNews(ctx context.Context, refused func(error)) (wait func() error) {
	answered := make(chan error, 1)
	go func() {
		err := j.askFiles(ctx, j.news)
		if err != nil {
			refused(err)
		}
		answered <- err
	}()
	return func() error { return <-answered }
}

// askFiles fails if the target refuses a job that has these files.
func (j *Job) askFiles(ctx context.Context, files []preflight.File) error {
	if j.AskFiles == nil || len(files) == 0 {
		return nil
	}
	err := j.AskFiles(ctx, files)
	var refused *api.Error
	if errors.As(err, &refused) && refused.Code == api.CodeRefused {
		return meanwhile(refused.Findings)
	}
	return err
}

// meanwhile is the error for a job that was found fit to leave, and is so no more.
func meanwhile(findings []api.Finding) error {
	return &api.Error{Code: api.CodeAborted, Message: "since preflight the job has come to hold what cannot move", Findings: findings,
		Hint: "remove what stands in the way above, then `migrate move` or `migrate checkpoint` again"}
}

// checkSuspended refuses a job that is frozen, which no move has done: none may be under way.
func (j *Job) checkSuspended() error {
	by, err := checkpoint.FindSuspension(j.Src.Cgroup)
	if err != nil || by == nil {
		return err
	}
	return node.Suspended(j.Rec.ID, j.sources.Config.Node, by)
}

// Close ends sending and pulling, and frees what they kept of the memory.
func (j *Job) Close() {
	j.Sending.end()
	j.endPull()
	if err := j.Src.Close(); err != nil {
		j.sources.Log.Error("memory of a move", logkey.Err, err)
	}
}
