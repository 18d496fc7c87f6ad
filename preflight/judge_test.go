package preflight

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// facts of a job of one task, 7 inside and 700 here, on a root with a home.
func facts() *jobFacts {
	rec := job.Record{Mounts: []job.Bind{{Source: "/home", Target: "/home"}}}
	return &jobFacts{
		Tasks:  []task{{Entry: pidmap.Entry{Host: 700, Job: 7, Comm: "solver"}}},
		Spaces: map[string]string{"net": "net:[1]", "user": "user:[2]"},
		view: newMountView(rec, []procfs.MountPoint{
			{ID: "10", Target: "/", Device: "8:1", Type: "ext4"},
			{ID: "11", Target: "/dev", Device: "0:50", Type: "tmpfs"},
			{ID: "12", Target: "/home", Device: "0:51", Type: "nfs4"},
		}),
	}
}

func node(kind uint32, major, minor uint32) inode {
	return inode{Mode: kind | 0o600, RdevMajor: major, RdevMinor: minor, Links: 1, Mount: 11, MountIsKnown: true}
}

func regular(link string, mount uint64, links uint32) file {
	return file{Link: link, inode: inode{Mode: unix.S_IFREG | 0o600, Links: links, Mount: mount, MountIsKnown: true}}
}

func TestEachOpenFileHasItsCode(t *testing.T) {
	reused := regular("/etc/hosts", 10, 1)
	reused.Name = nameReused
	lost, shared := regular("/etc/lost", 10, 1), regular("/home/lost", 12, 1)
	lost.Name, shared.Name = nameGone, nameGone
	memfd := regular("/memfd:x (deleted)", 99, 0)
	memfd.Magic = unix.TMPFS_MAGIC
	huge := memfd
	huge.Magic = unix.HUGETLBFS_MAGIC
	big := regular("/var/tmp/big (deleted)", 10, 0)
	big.Allocated = deletedLimit + 1
	limit := big
	limit.Allocated = deletedLimit
	inMemory, tooBig := regular("/dev/shm/x (deleted)", 11, 0), regular("/dev/shm/x (deleted)", 11, 0)
	inMemory.Allocated, tooBig.Allocated = criu.GhostLimit, criu.GhostLimit+1
	socket := func(proto string) descriptor {
		return descriptor{file: file{Link: "socket:[5]", inode: inode{Mode: unix.S_IFSOCK, Ino: 5}}, Proto: proto}
	}
	of := func(f file) descriptor { return descriptor{file: f} }
	device := func(link string, kind, major, minor uint32) descriptor {
		return of(file{Link: link, inode: node(kind, major, minor)})
	}
	for name, c := range map[string]struct {
		d    descriptor
		want []Code
	}{
		"deleted in memory": {of(inMemory), nil},
		"and too big":       {of(tooBig), []Code{DeletedTooBig}},
		"null":              {device("/dev/null", unix.S_IFCHR, 1, 3), nil},
		"terminal":          {device("/dev/pts/0", unix.S_IFCHR, 136, 0), nil},
		"memory":            {device("/dev/mem", unix.S_IFCHR, 1, 1), []Code{DeviceOpen}},
		"disk":              {device("/dev/sda", unix.S_IFBLK, 8, 0), []Code{DeviceOpen}},
		"NVIDIA":            {device("/dev/nvidia0", unix.S_IFCHR, 195, 0), []Code{GPU}},
		"AMD":               {device("/dev/kfd", unix.S_IFCHR, 240, 0), []Code{GPU}},
		"render node":       {device("/dev/dri/renderD128", unix.S_IFCHR, 226, 128), []Code{GPU}},
		"verbs":             {device("/dev/infiniband/uverbs0", unix.S_IFCHR, 231, 192), []Code{RDMA}},
		"Slingshot":         {device("/dev/cxi0", unix.S_IFCHR, 511, 0), []Code{RDMA}},
		"KVM":               {of(file{Link: "anon_inode:kvm-vm"}), []Code{KernelObject}},
		"own pidfd":         {descriptor{file: file{Link: "anon_inode:[pidfd]"}, Pid: 700}, nil},
		"pidfd of the dead": {descriptor{file: file{Link: "anon_inode:[pidfd]"}, Pid: -1}, nil},
		"pidfd of another":  {descriptor{file: file{Link: "anon_inode:[pidfd]"}, Pid: 1}, []Code{PidfdOutside}},
		"own namespace":     {of(file{Link: "net:[1]"}), nil},
		"another namespace": {of(file{Link: "net:[77]"}), []Code{NamespaceOpen}},
		"inotify":           {of(file{Link: "anon_inode:inotify"}), nil},
		"unknown":           {of(file{Link: "anon_inode:[landlock-ruleset]"}), []Code{KernelObject}},
		"DMA buffer":        {of(file{Link: "dmabuf:"}), []Code{KernelObject}},
		"pipe":              {of(file{Link: "pipe:[9]"}), nil},
		"TCP":               {socket("TCP"), nil},
		"no xattr":          {socket(""), nil},
		"SCTP":              {socket("SCTP"), []Code{SocketKind}},
		"crypto":            {socket("ALG"), []Code{SocketKind}},
		"CAN":               {socket("CAN_RAW"), []Code{SocketKind}},
		"file":              {of(regular("/etc/passwd", 10, 1)), nil},
		"file from outside": {of(regular("/etc/passwd", 99, 1)), []Code{FileOutside}},
		"another's file":    {of(reused), []Code{NameReused}},
		"lost file":         {of(lost), []Code{NameGone}},
		"lost on NFS":       {of(shared), nil},
		"memfd":             {of(memfd), nil},
		"huge memfd":        {of(huge), []Code{HugePages}},
		"big deleted":       {of(big), []Code{DeletedTooBig}},
		"at the limit":      {of(limit), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var r report
			j := facts()
			j.judgeOpened(&r, j.Tasks[0], c.d)
			wantCodes(t, r.findings(), c.want...)
		})
	}
}

func TestEachMappingHasItsCode(t *testing.T) {
	for name, c := range map[string]struct {
		m    mapping
		want []Code
	}{
		"heap":      {mapping{file: file{Link: "[heap]"}}, nil},
		"uprobes":   {mapping{file: file{Link: "[uprobes]"}}, []Code{Uprobes}},
		"zero":      {mapping{file: file{Link: "/dev/zero", inode: node(unix.S_IFCHR, 1, 5)}}, nil},
		"timer":     {mapping{file: file{Link: "/dev/hpet", inode: node(unix.S_IFCHR, 10, 228)}}, []Code{DeviceMapped}},
		"doorbell":  {mapping{file: file{Link: "/dev/infiniband/uverbs0", inode: node(unix.S_IFCHR, 231, 192)}}, []Code{RDMA}},
		"GPU":       {mapping{file: file{Link: "/dev/nvidia0", inode: node(unix.S_IFCHR, 195, 0)}}, []Code{GPU}},
		"ring":      {mapping{file: file{Link: "anon_inode:[io_uring]", inode: inode{Mode: 0o600}}}, []Code{IOUring}},
		"async I/O": {mapping{file: file{Link: "/[aio] (deleted)", inode: inode{Mode: unix.S_IFREG}}}, nil},
		"library":   {mapping{file: regular("/usr/lib/libc.so.6", 10, 1)}, nil},
		"DMA":       {mapping{file: file{Link: "dmabuf:x", inode: inode{Mode: unix.S_IFREG}}}, []Code{DeviceMapped}},
	} {
		t.Run(name, func(t *testing.T) {
			var r report
			j := facts()
			j.judgeMapped(&r, j.Tasks[0], c.m)
			wantCodes(t, r.findings(), c.want...)
		})
	}
}

func TestMountsOfTheJobsOwnMustBeOfAKindThatCanBeMadeAgain(t *testing.T) {
	for fs, want := range map[string][]Code{"tmpfs": nil, "proc": nil, "fuse.sshfs": {MountUnsupported}, "nfs4": {MountUnsupported}, "overlay": {MountUnsupported}} {
		var r report
		j := facts()
		j.view.mounts = append(j.view.mounts, procfs.MountPoint{ID: "20", Target: "/home/me/mnt", Device: "0:77", Type: fs})
		j.judgeMounts(&r)
		wantCodes(t, r.findings(), want...)
	}
	var r report
	j := facts()
	j.view.mounts = append(j.view.mounts, procfs.MountPoint{ID: "20", Target: "/mnt", Device: "8:1", Root: "/usr", Type: "ext4"})
	j.judgeMounts(&r)
	wantCodes(t, r.findings()) // a part of the root, bound again
	shm := procfs.MountPoint{ID: "21", Target: "/dev/shm", Device: "0:78", Root: "/", Type: "tmpfs"}
	j.view.mounts = append(j.view.mounts, shm)
	j.judgeMounts(&r)
	wantCodes(t, r.findings())
	j.view.mounts = append(j.view.mounts, shm)
	j.judgeMounts(&r)
	wantCodes(t, r.findings(), MountUnsupported) // one covers the other
}

func TestTheRightToReadLimits(t *testing.T) {
	root, other := [4]uint32{}, [4]uint32{1000, 1000, 1000, 1000}
	for name, c := range map[string]struct {
		uids  [4]uint32
		space string
		cap   bool
		want  []Code
	}{
		"root":              {root, "user:[2]", false, nil},
		"user":              {other, "user:[2]", false, []Code{RlimitsHidden}},
		"user, capability":  {other, "user:[2]", true, nil},
		"user in his space": {other, "user:[3]", false, nil},
		"half a user":       {[4]uint32{0, 1000, 0, 1000}, "user:[2]", false, []Code{RlimitsHidden}},
	} {
		t.Run(name, func(t *testing.T) {
			var r report
			j := facts()
			j.Source = selfFacts{UserSpace: "user:[2]", CapSysResource: c.cap}
			j.judgeRlimits(&r, task{UIDs: c.uids, Spaces: []space{{"user", c.space}}})
			wantCodes(t, r.findings(), c.want...)
		})
	}
}

func TestPathsLeadToTheNodeThroughRootAndBinds(t *testing.T) {
	rec := job.Record{Spec: job.Spec{Root: "/images/a", Binds: []job.Bind{{Source: "/lustre/p", Target: "/data/"}}}}
	v := newMountView(rec, []procfs.MountPoint{
		{ID: "1", Target: "/"}, {ID: "2", Target: "/tmp"}, {ID: "3", Target: "/data"}, {ID: "4", Target: "/data/own"}, {ID: "5", Target: namespaces.IOMount},
	})
	for in, want := range map[string]string{
		"/bin/sh": "/images/a/bin/sh", "/": "/images/a", "/data": "/lustre/p", "/data/x/y": "/lustre/p/x/y", "/database": "/images/a/database",
		"/tmp/x": "", "/data/own/x": "", namespaces.IOMount + "/stdout": "",
	} {
		if got, ok := v.nodePath(in); got != want || ok != (want != "") {
			t.Errorf("%s leads to %q, want %q", in, got, want)
		}
	}
}

func TestALongReportSaysHowMuchItLeavesOut(t *testing.T) {
	var r report
	for i := range 12 {
		r.add(GPU, "remedy", "task %d", i)
		r.add(GPU, "remedy", "task %d", i)
	}
	r.add(RDMA, "remedy", "one")
	got := r.findings()
	if len(got) != perCode+1 || got[perCode-1].Cause != "task 4; and 7 more of this kind" {
		t.Errorf("%+v", got)
	}
}

func TestOldVersionsAreRefused(t *testing.T) {
	for _, c := range []struct {
		v      criu.Version
		kernel string
		want   []Code
	}{
		{criu.Version{Major: 4, Minor: 1, Sub: 1}, "6.12.57", nil},
		{criu.Version{Major: 4, Minor: 1, Sub: 1}, "6.18.1", []Code{CRIUTooOld}},
		{criu.Version{Major: 3, Minor: 17, Sub: 1}, "6.1.0", []Code{CRIUTooOld}},
		{criu.Version{Major: 4, Minor: 2}, "6.18.1", nil},
	} {
		var r report
		judgeFloor(&r, c.v, c.kernel)
		wantCodes(t, r.findings(), c.want...)
	}
	for _, c := range []struct {
		source, target string
		want           []Code
	}{{"4.2.1", "4.2.1", nil}, {"4.1.1", "4.2", nil}, {"4.2.1", "4.1.1", []Code{CRIUOlder}}, {"", "4.1", nil}, {"4.2", "", nil}} {
		var r report
		judgeDirection(&r, c.source, c.target)
		wantCodes(t, r.findings(), c.want...)
	}
}

func TestImagesThatHaveNoRoomOnTheSourceAreRefused(t *testing.T) {
	lazy := Needs{Memory: 100, Segments: 20, Locked: 10, InTmpfs: 30}
	eager := lazy
	eager.Eager = true
	for name, c := range map[string]struct {
		n          Needs
		room, free int64
		want       []Code
	}{
		"lazy":            {lazy, 30, 30, nil},
		"no room":         {lazy, 29, 30, []Code{ImagesShort}},
		"no memory":       {lazy, 30, 29, []Code{ImagesShort}},
		"eager":           {eager, 70, 70, nil},
		"eager, and less": {eager, 69, 69, []Code{ImagesShort}},
	} {
		t.Run(name, func(t *testing.T) {
			var r report
			judgeImages(&r, c.n.images(), "/run", c.room, c.free)
			wantCodes(t, r.findings(), c.want...)
		})
	}
	if f, err := CheckImageRoom(Needs{Segments: 1 << 60, Memory: 1 << 60}, t.TempDir()); err != nil || len(f) != 2 {
		t.Errorf("got %+v, %v", f, err)
	}
}

func ExampleFinding() {
	f := CheckClocks(-2e9)
	fmt.Println(f.Code, "-", f.Cause)
	// Output: clock-behind - the target's clock is 2s behind this node's, and the job would see the time of day step back
}
