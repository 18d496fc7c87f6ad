package preflight

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry/table"
	"github.com/migrate-hpc/migrate/criu"
)

// anonymous are the kernel's nameless objects that CRIU saves, see dump_one_file in
// its criu/files.c. All others cannot be saved.
var anonymous = []string{"[eventfd]", "[eventpoll]", "inotify", "[fanotify]", "[signalfd]", "[timerfd]", "[pidfd]"}

// notSaved explains the others, as far as users meet them.
var notSaved = []struct {
	prefix       string
	code         Code
	what, remedy string
}{
	{"[io_uring]", IOUring, "an io_uring, whose requests under way live in the kernel",
		"run the program without io_uring; many have an option or variable for it (libuv and Node.js: `migrate run --env UV_USE_IO_URING=0 …`), and MPI-IO hints can switch it off"},
	{"[perf_event]", PerfEvent, "a performance counter",
		"run the program without perf, PAPI or a profiler that counts events"},
	{"bpf", BPF, "a BPF object", "run the program without BPF"},
	{"[bpf", BPF, "a BPF object", "run the program without BPF"},
	{"[userfaultfd]", Userfaultfd, "a userfaultfd: it serves page faults itself, and so would the move",
		"run the program without userfaultfd (some garbage collectors and virtual machines have an option)"},
	{"[kvm", KernelObject, "a virtual machine of KVM", "stop the virtual machine, or move it by its own means (`virsh migrate`)"},
	{"kvm", KernelObject, "a virtual machine of KVM", "stop the virtual machine, or move it by its own means (`virsh migrate`)"},
}

// deletedLimit bounds deleted files on a disk, in bytes: all of each crosses while the
// job is frozen.
const deletedLimit = 64 << 20

// closeIt is the remedy for what a process has open; its pid belongs in it.
const closeIt = "close it before the move; `ls -l /proc/%d/fd` shows what the process has open"

// space names in links of descriptors: net:[4026531840].
var spaceLink = regexp.MustCompile(`^(mnt|net|ipc|uts|user|pid|time|cgroup):\[\d+\]$`)

func (j *jobFacts) judgeOpened(r *report, t task, d descriptor) {
	judgeState(r, t, d)
	switch {
	case d.Link == tooLong: // said
	case strings.HasPrefix(d.Link, "anon_inode:"):
		j.judgeAnonymous(r, t, d)
	case spaceLink.MatchString(d.Link):
		kind, _, _ := strings.Cut(d.Link, ":")
		if j.Spaces[kind] != d.Link && !hasNest(j.Tasks, kind, d.Link) {
			r.add(NamespaceOpen, fmt.Sprintf(closeIt, t.Host),
				"%s has a namespace open that is not its job's: %s", t, d)
		}
	case d.kind() == unix.S_IFSOCK:
		judgeSocket(r, t, d)
	case strings.HasPrefix(d.Link, "pipe:["):
	case d.kind() == unix.S_IFCHR || d.kind() == unix.S_IFBLK:
		j.judgeDevice(r, t, d)
	case strings.HasPrefix(d.Link, "/"):
		j.judgeLease(r, t, d)
		j.judgeFile(r, t, d.file)
	default:
		r.add(KernelObject, fmt.Sprintf(closeIt+", or run the program without that feature", t.Host),
			"%s holds %s, which cannot be saved", t, d)
	}
}

func (j *jobFacts) judgeAnonymous(r *report, t task, d descriptor) {
	kind := strings.TrimPrefix(d.Link, "anon_inode:")
	if kind == "[pidfd]" {
		if d.Pid >= 0 && !j.has(d.Pid) {
			r.add(PidfdOutside, fmt.Sprintf(closeIt, t.Host), "%s holds a pidfd of a process that is not of its job, and which stays behind", t)
		}
		return
	}
	if slices.Contains(anonymous, kind) {
		return
	}
	for _, n := range notSaved {
		if strings.HasPrefix(strings.TrimPrefix(kind, "anon_inode:"), n.prefix) {
			r.add(n.code, n.remedy, "%s holds %s; that cannot be saved", t, n.what)
			return
		}
	}
	r.add(KernelObject, fmt.Sprintf(closeIt+", or run the program without that feature", t.Host),
		"%s holds the kernel object %s, which cannot be saved", t, kind)
}

// judgeDevice allows the devices that every job is given, on the job's own
// mounts. The numbers are those of Documentation/admin-guide/devices.txt.
func (j *jobFacts) judgeDevice(r *report, t task, d descriptor) {
	if d.kind() == unix.S_IFCHR && givenDevice(d.RdevMajor, d.RdevMinor) {
		if j.judgeOutside(r, t, d.file) {
			j.view.judgeCovered(r, t, d.file)
		}
		return
	}
	code, what, remedy := deviceKind(d.Link, d.inode)
	r.add(code, remedy, "%s has %s open: %s. What a device holds for a program cannot be carried to another node", t, what, d.Link)
}

func givenDevice(major, minor uint32) bool {
	switch major {
	case 1: // null, zero, full, random, urandom
		return slices.Contains([]uint32{3, 5, 7, 8, 9}, minor)
	case 5: // tty, ptmx
		return minor == 0 || minor == 2
	}
	return major >= 136 && major <= 143 // pts
}

// deviceKind puts a name to a device by its path or number.
func deviceKind(link string, i inode) (code Code, what, remedy string) {
	close := "close it before the move, or start the job without it; `lsof " + quoted(link) + "` shows who has it"
	switch {
	case strings.HasPrefix(link, "/dev/nvidia"), i.RdevMajor == 195, strings.HasPrefix(link, "/dev/dri/"), i.RdevMajor == 226, link == "/dev/kfd":
		return GPU, "a GPU", "jobs on GPUs cannot be moved; let the program write its own checkpoint, or run it on processors only: `migrate run --env CUDA_VISIBLE_DEVICES= …`, or ROCR_VISIBLE_DEVICES"
	case strings.HasPrefix(link, "/dev/infiniband/"), i.RdevMajor == 231, strings.HasPrefix(link, "/dev/hfi1"), strings.HasPrefix(link, "/dev/cxi"):
		return RDMA, "an RDMA adapter", "run the job over TCP or shared memory (Open MPI: `mpirun --mca btl self,vader,tcp --mca pml ob1`; UCX: `migrate run --env UCX_TLS=tcp,sm,self …`; libfabric: `migrate run --env FI_PROVIDER=tcp …`)"
	case i.kind() == unix.S_IFBLK:
		return DeviceOpen, fmt.Sprintf("block device %d:%d", i.RdevMajor, i.RdevMinor), close
	}
	return DeviceOpen, fmt.Sprintf("device %d:%d", i.RdevMajor, i.RdevMinor), close
}

// judgeLease refuses a lease on a file that the target opens: if both nodes share it, that breaks the
// lease, and the kernel signals the job. The signal ends a job that does not expect it.
func (j *jobFacts) judgeLease(r *report, t task, d descriptor) {
	if _, ok := j.onNode(d.file); d.Leased && ok {
		r.add(LeaseHeld, "have the program give the lease up, or keep the file in `/tmp`; `grep LEASE /proc/locks` lists leases",
			"%s has a lease (F_SETLEASE) on %s, which the target would break when it opens the file", t, d)
	}
}

// judgeFile is for what has a path: open, mapped or a directory of a task.
func (j *jobFacts) judgeFile(r *report, t task, f file) {
	switch {
	case f.Magic == unix.HUGETLBFS_MAGIC:
		r.add(HugePages, "run the program without huge pages of hugetlbfs; transparent huge pages move (glibc: `migrate run --env GLIBC_TUNABLES=glibc.malloc.hugetlb=1 …`, libhugetlbfs: `unset HUGETLB_MORECORE`)",
			"%s uses huge pages of hugetlbfs (%s), which another node need not have set aside", t, f.path())
		return
	case f.Magic == unix.SECRETMEM_MAGIC:
		r.add(SecretMemory, "run the program without memfd_secret", "%s uses secret memory, which only the process itself can read", t)
		return
	case internal(f):
		return
	case table.Carried.Carries(f.Magic): // on a mount of the kernel's own
		return
	}
	if !j.judgeOutside(r, t, f) {
		return
	}
	j.view.judgeCovered(r, t, f)
	m, _ := j.view.byID(f.Mount)
	limit := int64(deletedLimit)
	if m.Type == "tmpfs" {
		limit = criu.GhostLimit
	}
	if f.kind() == unix.S_IFREG && f.Links == 0 && f.Allocated > limit {
		r.add(DeletedTooBig, "close the file, or delete it only after the job is done with it; to see it: `lsof +L1 -p PID`",
			"%s holds %s, which was deleted: %d MiB that live nowhere but in this node's file system, and the limit for such files is %d MiB",
			t, f.path(), f.Allocated>>20, limit>>20)
	}
	j.judgeName(r, t, f)
}

// internal tells memory that only looks like a file: memfds, shared anonymous
// memory, System V segments.
func internal(f file) bool { return f.Magic == unix.TMPFS_MAGIC && f.Links == 0 }

// judgeOutside reports whether the file is on a mount of the job.
func (j *jobFacts) judgeOutside(r *report, t task, f file) bool {
	if _, ok := j.view.byID(f.Mount); ok || !f.MountIsKnown {
		return true
	}
	r.add(FileOutside, "close it before the move; programs that `migrate run` starts open nothing outside, so it was passed in over a Unix socket or by `migrate exec`",
		"%s holds %s, which was opened outside of the job's own mounts, so that its path means nothing to the target", t, f.Link)
	return false
}

// judgeName is for files whose name has been taken away while they are open. One
// that has other names is brought back through a temporary one beside the old, which
// the target must see.
func (j *jobFacts) judgeName(r *report, t task, f file) {
	if f.Links == 0 {
		return
	}
	switch f.Name {
	case nameReused:
		r.add(NameReused, "have the program open the new file (many do after `migrate kill -s HUP JOB`), or restart it",
			"%s holds %s, but that name leads to another file by now", t, f.path())
	case nameGone:
		m, _ := j.view.byID(f.Mount)
		if _, onNode := j.view.filePath(f, path.Dir(f.path())); onNode && !isSharedFS(m.Type) {
			r.add(NameGone, "give the file its name back with `ln`, or close it",
				"%s holds %s, which has lost that name and has another one: the target could not find it", t, f.path())
		}
	}
}
