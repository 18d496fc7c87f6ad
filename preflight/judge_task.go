package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/pidmap"
)

func (j *jobFacts) judgeTasks(r *report) {
	for _, t := range j.Tasks {
		j.judgeTask(r, t)
		j.judgeHeld(r, t)
	}
	j.judgeMembers(r)
	judgeLinks(r, j.Links)
	j.judgePipes(r)
}

// judgeHeld judges what a task has open and mapped.
func (j *jobFacts) judgeHeld(r *report, t task) {
	for _, d := range t.Opened {
		j.judgeOpened(r, t, d)
	}
	for _, m := range t.Mapped {
		j.judgeMapped(r, t, m)
	}
}

func (j *jobFacts) judgeTask(r *report, t task) {
	if t.State == 'Z' && !t.Zombie() {
		judgeHeadless(r, t.String())
		return
	}
	if len(t.Tracers) > 0 {
		r.add(Traced, "detach the debugger or tracer: `kill "+itoa(t.Tracers[0])+"` ends it", // ptrace detaches when the tracer ends
			"process %d of this node traces %s (a debugger, strace), and only one can trace at a time", t.Tracers[0], t)
	}
	j.judgeSpaces(r, t)
	j.judgeRlimits(r, t)
}

// judgeSpaces allows mount and network namespaces inside the job's, of which CRIU makes more than
// one. A process is in them as a whole. They belong to the job's user namespace: CRIU makes them
// there.
func (j *jobFacts) judgeSpaces(r *report, t task) {
	names := map[string]int{}
	for _, s := range t.Spaces {
		names[s.Kind]++
	}
	for _, s := range t.Spaces {
		kind := strings.TrimSuffix(s.Kind, "_for_children")
		own := j.Spaces[kind]
		switch {
		case own == "" || own == s.Name:
		case !slices.Contains(namespaces.Nestable, s.Kind):
			r.add(NestedNamespace, sandboxRemedy,
				"%s has made a %s namespace of its own inside the job's, which cannot be saved", t, kind)
		case names[s.Kind] > 1:
			r.add(NestedNamespace, "have the program make namespaces before it makes threads, or start it with `unshare`",
				"threads of %s are in different %s namespaces, which cannot be saved", t, kind)
		case slices.Contains(t.Alien, s.Kind):
			r.add(NestedNamespace, sandboxRemedy,
				"%s is in a %s namespace that belongs to another user namespace than the job's, which cannot be saved", t, kind)
		case kind == "net" && t.Connected:
			r.add(NestedNamespace, fmt.Sprintf("end the connections before the move; `nsenter -t %d -n ss -tan` shows them", t.Host),
				"%s has made a net namespace of its own inside the job's, with TCP connections, which could break while some are saved and others are not", t)
		}
	}
}

// nests tells whether a process of the job is in a namespace inside the job's.
func (j *jobFacts) nests() bool {
	return slices.ContainsFunc(j.Tasks, func(t task) bool {
		return slices.ContainsFunc(t.Spaces, func(s space) bool {
			return slices.Contains(namespaces.Nestable, s.Kind) && j.Spaces[s.Kind] != s.Name
		})
	})
}

// CheckNested is a finding if a job with namespaces inside its own goes to an agent that refuses
// such images.
func CheckNested(n Needs, knows bool, node string) *Finding {
	if !n.Nested || knows {
		return nil
	}
	return &Finding{Code: NestedNamespace, Cause: "the job has made mount or network namespaces inside its own, and the agent of " + node + " is too old for such jobs",
		Remedy: "upgrade migrate on " + node + ", or move the job to another node: `migrate move JOB NODE`"}
}

// hasNest tells whether a process of the job is in such a namespace.
func hasNest(tasks []task, kind, name string) bool {
	return slices.Contains(namespaces.Nestable, kind) &&
		slices.ContainsFunc(tasks, func(t task) bool { return t.space(kind) == name })
}

func judgeHeadless(r *report, who string) {
	r.add(LeaderGone, "end the job with `migrate kill JOB`, and run the program in a way that its main thread stays",
		"the main thread of %s has ended while others go on; such a process cannot be saved", who)
}

// judgeRlimits foresees the kernel's answer to CRIU's prlimit(2), see check_prlimit_permission in
// kernel/sys.c. For tasks of other users it needs CAP_SYS_RESOURCE in their user namespace. The
// maker of that namespace has it.
func (j *jobFacts) judgeRlimits(r *report, t task) {
	if t.Zombie() || j.Source.CapSysResource || t.space("user") != j.Source.UserSpace {
		return
	}
	same := func(ids [4]uint32, own uint32) bool { return ids[0] == own && ids[1] == own && ids[2] == own }
	if same(t.UIDs, j.Source.UID) && same(t.GIDs, j.Source.GID) {
		return
	}
	r.add(RlimitsHidden, "let the agent have CAP_SYS_RESOURCE (`docker run --cap-add SYS_RESOURCE`), or start jobs here with `migrate run --user-ns`",
		"this node withholds CAP_SYS_RESOURCE, without which the agent may not read the resource limits of a process of user %d", t.UIDs[0])
}

// judgeMembers compares the two ways to find the tasks of a job. The freezer
// knows them by the cgroup, CRIU by the tree of PID 1.
func (j *jobFacts) judgeMembers(r *report) {
	var all []pidmap.Entry
	for _, t := range j.Tasks {
		all = append(all, t.Entry)
	}
	var visited []int
	for _, v := range pidmap.Visitors(all) {
		visited = append(visited, v.PPid)
		r.add(VisitorInside, "wait for its end, or end it: `kill "+itoa(v.Host)+"`",
			"%s was brought into the job by process %d from outside; a `migrate exec` still runs, and it cannot move with the job", processName(v.Job, v.Comm), v.PPid)
	}
	for _, p := range j.OutsideNamespace {
		if p.Headless {
			judgeHeadless(r, processName(p.Job, p.Comm))
		} else if !slices.Contains(visited, p.Pid) {
			r.add(OutsideNamespace, "end it, or wait if it is a `migrate exec` that is just starting: `ps -o pid,args "+itoa(p.Pid)+"`",
				"process %d (%s) of this node is in the job's cgroup but not in the job, and would be frozen with it", p.Pid, p.Comm)
		}
	}
	for _, p := range j.OutsideCgroup {
		if !slices.Contains(visited, p.PPid) {
			r.add(OutsideCgroup, "put it back: `echo "+itoa(p.Pid)+" > "+j.FreezerDir+"/cgroup.procs`",
				"%s is in the job but not in the job's cgroup, so that it would run on while the others are frozen", processName(p.Job, p.Comm))
		}
	}
}
