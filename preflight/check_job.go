package preflight

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/procfs"
)

// passing is how long a preflight waits for what is about to pass.
const passing = 500 * time.Millisecond

// CheckJob looks at a running job whose PID 1 is initPID here, and at this node, which is the
// source. It returns what the job needs on a target, and why it cannot leave. It touches nothing.
// An error means that the look failed, for example because the job has ended. With c nil, no CRIU
// was found.
func CheckJob(ctx context.Context, rec job.Record, initPID int, cg *cgroup.Cgroup, c *criu.Client) (*Look, error) {
	kernel, err := kernelRelease()
	if err != nil {
		return nil, lookError(rec, err)
	}
	l, err := LookAt(ctx, rec, initPID, cg)
	if err != nil {
		return nil, err
	}
	var r report
	version, err := probeCRIU(ctx, &r, c, kernel)
	if err != nil {
		return nil, lookError(rec, err)
	}
	l.Findings = append(r.findings(), l.Findings...)
	l.Needs.Kernel, l.Needs.CRIU = kernel, version
	l.Needs.bound(rec)
	return l, nil
}

func lookError(rec job.Record, err error) error {
	return fmt.Errorf("look at job %s: %w", rec.ID, err)
}

// LookAt is CheckJob without the node.
func LookAt(ctx context.Context, rec job.Record, initPID int, cg *cgroup.Cgroup) (*Look, error) {
	var r report
	if err := namespaces.CheckNamespaces(initPID, rec.Spec.UserNS); errors.Is(err, namespaces.ErrLeftNamespaces) {
		// Nothing that is seen by it would be the job's.
		r.add(NestedNamespace, sandboxRemedy, "%v, which cannot be saved", err)
		return &Look{Findings: r.findings()}, nil
	}
	facts, err := readJob(ctx, rec, initPID, cg)
	if p, ok := describeProcess(initPID); procfs.IsGone(err) && ok && p.Headless {
		judgeHeadless(&r, processName(p.Job, p.Comm)) // nothing else of it can be seen
		return &Look{Findings: r.findings()}, nil
	}
	if err != nil {
		return nil, lookError(rec, err)
	}
	if err := facts.judge(&r, rec, initPID); err != nil {
		return nil, lookError(rec, err)
	}
	judgeClosedMounts(&r, ClosedMounts(rec))
	if o, err := table.Carried.Lasting(ctx, initPID, passing); err != nil {
		return nil, lookError(rec, err)
	} else if o != nil {
		r.add(Code(o.Code), o.Remedy, "%s", o.Cause)
	}
	l := &Look{init: initPID, cgroup: cg, facts: facts}
	if l.Needs, err = facts.needs(rec); err != nil {
		return nil, lookError(rec, err)
	}
	l.Needs.bound(rec)
	l.Findings = r.findings()
	return l, nil
}

func (j *jobFacts) judge(r *report, rec job.Record, initPID int) error {
	j.judgeMounts(r)
	j.judgeTasks(r)
	if err := j.judgeRights(r, rec, initPID); err != nil {
		return err
	}
	obstacles, err := table.Carried.Check(initPID)
	if err != nil {
		return err
	}
	for _, o := range obstacles {
		r.add(Code(o.Code), o.Remedy, "%s", o.Cause)
	}
	n, err := osthread.KeyringsWithKeys(string(rec.ID))
	if err == nil && n > 0 {
		r.add(KeysHeld, "have the program that needs them make them anew after the move, and take them away before: `keyctl clear @s`, run by the job; or end the command of `migrate exec` that made them",
			"the job has keys in its session keyring (keyrings(7)), which no checkpoint can carry")
	}
	return err
}
