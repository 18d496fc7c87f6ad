package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/osthread"
)

// judgeDirection compares two versions of CRIU. Its images go from old to new
// only. "" is a version that is not known, which has been told of elsewhere.
func judgeDirection(r *report, source, target string) {
	if source == "" || target == "" {
		return
	}
	if s, t := parseVersion(source), parseVersion(target); !t.AtLeast(s) {
		r.add(CRIUOlder, fmt.Sprintf("run scripts/setup (`make setup`) on this node to install CRIU %s or newer, then restart its agent", s),
			"this node has CRIU %s and the source has %s; an older CRIU need not understand the images of a newer one", t, s)
	}
}

func (f nodeFacts) judge(r *report, n Needs) {
	if f.Arch != n.Arch {
		r.add(ArchDiffers, "`migrate move JOB NODE` with a node that has "+n.Arch+" processors", "this node's processor is %s and the job's program is running on %s", f.Arch, n.Arch)
	} else {
		f.judgeCPU(r, n.CPU)
	}
	f.judgeCPUs(r, n)
	f.judgeKernel(r, n)
	f.judgeMemory(r, n)
	if !f.Root {
		r.add(RootMissing, "copy it here: `rsync -aHAXS SOURCE:"+quoted(n.Root)+"/ "+quoted(n.Root)+"/`, or have it on a shared file system",
			"the job's root %s is no directory of this node", n.Root)
	}
	if f.Root && !f.WorkDir {
		r.add(WorkDirMissing, "make it: `mkdir -p "+quoted(n.WorkDir)+"`, or mount the file system that it is on",
			"the job's work directory %s is no directory of this node", n.WorkDir)
	}
	if !f.Bridge {
		cause, remedy := NoBridge(n.Bridge)
		r.add(BridgeMissing, remedy, "%s", cause)
	}
}

func (f nodeFacts) judgeCPU(r *report, flags []string) {
	missing := slices.DeleteFunc(slices.Clone(flags), func(s string) bool { return slices.Contains(f.CPU, s) })
	if len(missing) > 0 {
		r.add(CPUFlagsMissing, "`migrate move JOB NODE` with a node whose processor is the same or newer, or start such jobs on the oldest nodes",
			"this node's processor lacks features of the source's, which programs and libraries may have found there and use: %.500s", strings.Join(missing, " "))
	}
}

func (f nodeFacts) judgeCPUs(r *report, n Needs) {
	if n.KeepCPUs && !n.CPUs.Within(f.CPUs) {
		r.add(CPUsMissing, "`migrate move --affinity map JOB NODE` binds them to others there, `--affinity drop` to none",
			"threads of the job are bound to processors %.200s, and this node gives its jobs %.200s", n.CPUs, f.CPUs)
	}
}

func (f nodeFacts) judgeKernel(r *report, n Needs) {
	for _, kind := range namespaces.Kinds {
		if f.Namespaces[kind] || kind == "user" && !n.UserNS {
			continue
		}
		r.add(NamespacesDisabled, fmt.Sprintf("allow them: `sysctl -w user.max_%s_namespaces=65536`; if there is no such setting, install a kernel of 5.6 or newer that has them", kind),
			"this node makes no %s namespaces, which the job lives in", kind)
	}
	if !f.Userfaultfd {
		r.add(UserfaultfdMissing, "install a kernel with CONFIG_USERFAULTFD; those of the distributions have it (Debian: `apt install linux-image-amd64`)",
			"the kernel of this node (%s) has no userfaultfd, by which the job's memory comes in", f.Kernel)
	}
}

// judgeMemory asks for a tenth more than the job has. That is for page tables, the index of
// arriving pages, and what the job writes meanwhile.
func (f nodeFacts) judgeMemory(r *report, n Needs) {
	want := n.Memory + n.Segments
	want += want / 10
	if f.Available < want {
		r.add(MemoryShort, "end or move other jobs here, or choose another node; `free -m` shows what is in use",
			"the job needs %d MiB of memory%s and this node has %d MiB available", want>>20, n.shares(), f.Available>>20)
	}
	want = n.Memory - n.InTmpfs + n.Segments
	want += want / 10
	if f.Room < want {
		r.add(MemoryShort, fmt.Sprintf("enlarge it: `mount -o remount,size=%dm %s`, or let the agent use another tmpfs", (want+want/4)>>20, quoted(f.MemoryDir)),
			"%s has %d MiB free, and the job's memory arrives there: %d MiB%s", f.MemoryDir, f.Room>>20, want>>20, n.shares())
	}
}

// shares says how much memory exists once on the source and several times on its way. It is empty
// if that is little.
func (n Needs) shares() string {
	if n.CopyOnWrite < 1<<20 || n.CopyOnWrite < n.Memory/20 {
		return ""
	}
	return fmt.Sprintf(" (its processes share %d MiB of it by copy-on-write, which arrives once for each)", n.CopyOnWrite>>20)
}

// judgeLimit compares what the job's memory becomes with what it is allowed.
func judgeLimit(r *report, n Needs, limit int64) {
	if limit == 0 || n.Eager || n.Memory <= limit || n.Memory-n.CopyOnWrite > limit {
		return // the last: it fits in no way, and did not on the source
	}
	r.add(CopyOnWrite, "`migrate move --eager` keeps that memory shared",
		"the job's processes share %d MiB by copy-on-write; after a live move each has a copy, together %d MiB, and the job may use %d MiB",
		n.CopyOnWrite>>20, n.Memory>>20, limit>>20)
}

func judgeMount(r *report, m Mount, here seenMount) {
	switch {
	case !here.Exists:
		make := "mkdir -p " + quoted(m.Path)
		if !m.Dir {
			make = "touch " + quoted(m.Path)
		}
		r.add(MountMissing, fmt.Sprintf("mount or copy it here as it is on the source (%s), or at least make it: `%s`", m.Type, make),
			"%s, which the source binds into the job, does not exist on this node", m.Path)
	case here.Dir != m.Dir:
		r.add(MountMissing, "make it the same on both nodes; `ls -ld "+quoted(m.Path)+"` shows what it is", "%s, which the source binds into the job, is a directory on one node and a file on the other", m.Path)
	case isSharedFS(m.Type) && !sameFamily(m.Type, here.Type):
		r.add(MountMissing, fmt.Sprintf("mount it: `mount %s` if /etc/fstab has it; `findmnt %s` on the source shows how", quoted(m.Path), quoted(m.Path)),
			"%s is on a shared file system (%s) on the source, and here on %s: the job would not find its files", m.Path, m.Type, orUnknown(here.Type))
	}
}

func orUnknown(s string) string {
	if s == "" {
		return "another one"
	}
	return s
}

// judgeJobs compares the job with those that are here.
func judgeJobs(r *report, rec job.Record, here []job.Record) {
	for _, other := range here {
		if !other.Here() {
			continue
		}
		if other.ID == rec.ID {
			r.add(JobHere, fmt.Sprintf("on that node, `migrate inspect %s` tells what it is; only if it is a copy that must go, type `migrate rm -f %s` there", rec.ID, rec.ID),
				"the node that the job comes to has a job %s already, which runs there or arrives", rec.ID)
		}
	}
}

// IDsTaken is the finding that another job has ids of the node that the job is mapped to. The
// agent finds it: it knows of jobs that are being started and of those that arrive.
func IDsTaken(rec job.Record, other job.ID) Finding {
	return Finding{Code: UIDRangeTaken, Cause: fmt.Sprintf("the job's user ids are mapped to %d and up, which job %s has on this node: each could touch the other's processes", rec.Spec.UIDBase, other),
		Remedy: "wait for the end of that job with `migrate wait " + string(other) + "`, or choose another node"}
}

// NoBridge says what a node lacks that has no bridge of that name, and how it gets one.
func NoBridge(name string) (cause, remedy string) {
	return fmt.Sprintf("this node has no bridge %s, which the job's interface hangs on", name),
		fmt.Sprintf("make it: `ip link add %[1]s type bridge && ip link set %[1]s up`, and attach the link that leads to the job's network: `ip link set LINK master %[1]s`", name)
}

func userOf(rec job.Record) osthread.User {
	return osthread.User{UID: rec.Spec.UID, GID: rec.Spec.GID, Groups: rec.Spec.Groups}
}
