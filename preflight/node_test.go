package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

// good is a node that has all that needs asks for.
func good() nodeFacts {
	kinds := map[string]bool{}
	for _, k := range namespaces.Kinds {
		kinds[k] = true
	}
	return nodeFacts{Arch: "amd64", Kernel: "6.12.0", CPU: []string{"avx", "avx2", "sse2"}, Available: 4 << 30, Room: 2 << 30,
		MemoryDir: "/run/migrate", Namespaces: kinds, Userfaultfd: true, Bridge: true, Root: true, WorkDir: true}
}

func needs() Needs {
	return Needs{Arch: "amd64", Kernel: "6.12.0", CRIU: "4.2.1", CPU: []string{"avx", "sse2"}, Memory: 1 << 30,
		Root: "/images/a", WorkDir: "/images/a/work", Bridge: "br0", UserNS: true, UIDBase: 1 << 30}
}

func TestWhatANodeLacksHasItsCode(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*nodeFacts)
		want  []Code
	}{
		"nothing":           {func(*nodeFacts) {}, nil},
		"architecture":      {func(f *nodeFacts) { f.Arch = "arm64"; f.CPU = nil }, []Code{ArchDiffers}},
		"processor":         {func(f *nodeFacts) { f.CPU = []string{"sse2"} }, []Code{CPUFlagsMissing}},
		"memory":            {func(f *nodeFacts) { f.Available = 1 << 30 }, []Code{MemoryShort}},
		"room":              {func(f *nodeFacts) { f.Room = 1 << 30 }, []Code{MemoryShort}},
		"root":              {func(f *nodeFacts) { f.Root, f.WorkDir = false, false }, []Code{RootMissing}},
		"work directory":    {func(f *nodeFacts) { f.WorkDir = false }, []Code{WorkDirMissing}},
		"bridge":            {func(f *nodeFacts) { f.Bridge = false }, []Code{BridgeMissing}},
		"user namespaces":   {func(f *nodeFacts) { f.Namespaces["user"] = false }, []Code{NamespacesDisabled}},
		"time namespaces":   {func(f *nodeFacts) { f.Namespaces["time"] = false }, []Code{NamespacesDisabled}},
		"lazy memory":       {func(f *nodeFacts) { f.Userfaultfd = false }, []Code{UserfaultfdMissing}},
		"a newer processor": {func(f *nodeFacts) { f.CPU = append(f.CPU, "avx512f") }, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := good()
			c.spoil(&f)
			var r report
			f.judge(&r, needs())
			wantCodes(t, r.findings(), c.want...)
		})
	}
}

func TestAJobWithoutUserNamespaceNeedsNone(t *testing.T) {
	f, n := good(), needs()
	f.Namespaces["user"], n.UserNS = false, false
	var r report
	f.judge(&r, n)
	wantCodes(t, r.findings())
}

func TestJobsThatAreInTheWay(t *testing.T) {
	rec := job.Record{ID: "jaaaaaaaaaa", Spec: job.Spec{UserNS: true, UIDBase: 1 << 30, Network: job.Network{Mode: "br0", Address: "10.0.0.7/24"}}}
	other := func(change func(*job.Record)) job.Record {
		r := job.Record{ID: "jbbbbbbbbbb", Spec: job.Spec{UserNS: true, UIDBase: 1<<30 + job.IDRange, Network: job.Network{Mode: "br0", Address: "10.0.0.8/24"}}}
		change(&r)
		return r
	}
	for name, c := range map[string]struct {
		here job.Record
		want []Code
	}{
		"a neighbour":      {other(func(*job.Record) {}), nil},
		"itself":           {other(func(r *job.Record) { r.ID = rec.ID }), []Code{JobHere}},
		"itself, moved on": {other(func(r *job.Record) { r.ID = rec.ID; r.MovedTo = &job.Moved{} }), nil},
	} {
		t.Run(name, func(t *testing.T) {
			var r report
			judgeJobs(&r, rec, []job.Record{c.here})
			wantCodes(t, r.findings(), c.want...)
		})
	}
}

func TestMountsMustBeThere(t *testing.T) {
	dir := func(fs string) Mount { return Mount{Path: "/scratch", Type: fs, Dir: true} }
	for _, c := range []struct {
		m    Mount
		here seenMount
		want []Code
	}{
		{dir("lustre"), seenMount{true, true, "lustre", false}, nil},
		{dir("nfs"), seenMount{true, true, "nfs4", false}, nil},
		{dir("ext4"), seenMount{true, true, "xfs", false}, nil},
		{dir("lustre"), seenMount{true, true, "ext4", false}, []Code{MountMissing}},
		{dir("ext4"), seenMount{}, []Code{MountMissing}},
		{dir("ext4"), seenMount{true, false, "ext4", false}, []Code{MountMissing}},
	} {
		var r report
		judgeMount(&r, c.m, c.here)
		wantCodes(t, r.findings(), c.want...)
	}
}

func TestFilesMustBeTheSame(t *testing.T) {
	const mode = unix.S_IFREG | 0o644
	want := File{Path: "/f", Size: 100, Mode: mode, Inode: 7}
	written, log := want, want
	written.Written = true
	log.Size = -1
	is := func(size int64, mode uint32, ino uint64, network bool) targetFile {
		return targetFile{inode: inode{Size: size, Mode: mode, Ino: ino}, Network: network}
	}
	for name, c := range map[string]struct {
		file File
		here targetFile
		want []Code
	}{
		"same":                      {want, is(100, mode, 9, false), nil},
		"missing":                   {want, targetFile{Err: fs.ErrNotExist}, []Code{FileMissing}},
		"no access":                 {want, targetFile{Err: unix.EACCES}, []Code{FileDenied}},
		"none for the user":         {want, targetFile{DeniedUID: 1000}, []Code{FileDenied}},
		"longer":                    {want, is(101, mode, 7, true), []Code{FileSize}},
		"other mode":                {want, is(100, unix.S_IFREG|0o755, 9, false), []Code{FileMode}},
		"a directory":               {want, is(100, unix.S_IFDIR|0o644, 9, false), []Code{FileMode}},
		"appended to only":          {log, is(5, mode, 9, false), nil},
		"written, same file":        {written, is(101, mode, 7, false), nil},
		"written, shared":           {written, is(101, mode, 9, true), nil},
		"written, a different file": {written, is(101, mode, 9, false), []Code{FileSize}},
	} {
		t.Run(name, func(t *testing.T) {
			var r report
			err := judgeFiles(context.Background(), &r, Needs{Files: []File{c.file}}, func(File, bool) targetFile { return c.here })
			if err != nil {
				t.Fatal(err)
			}
			wantCodes(t, r.findings(), c.want...)
		})
	}
}

func TestTenFilesAreNamedAndTheRestCounted(t *testing.T) {
	var n Needs
	for i := range 25 {
		n.Files = append(n.Files, File{Path: fmt.Sprintf("/lib/%02d", i)})
	}
	var r report
	if err := judgeFiles(context.Background(), &r, n, func(File, bool) targetFile { return targetFile{Err: fs.ErrNotExist} }); err != nil {
		t.Fatal(err)
	}
	got := r.findings()
	if len(got) != 1 || !strings.HasSuffix(got[0].Cause, "/lib/09 and 15 more") || strings.Contains(got[0].Cause, "/lib/10") {
		t.Errorf("%+v", got)
	}
}

func TestAStaleSizeIsAskedForAgain(t *testing.T) {
	var r report
	f := File{Path: "/f", Size: 100, Mode: unix.S_IFREG}
	err := judgeFiles(context.Background(), &r, Needs{Files: []File{f}}, func(_ File, sure bool) targetFile {
		if sure {
			return targetFile{inode: inode{Mode: f.Mode, Size: 100}}
		}
		return targetFile{inode: inode{Mode: f.Mode, Size: 90}}
	})
	if err != nil {
		t.Fatal(err)
	}
	wantCodes(t, r.findings())
}

func TestTheEndOfTheContextEndsTheLook(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	why := errors.New("the user gave up")
	cancel(why)
	var r report
	if err := judgeFiles(ctx, &r, Needs{Files: []File{{}}}, nil); !errors.Is(err, why) {
		t.Errorf("error is %v", err)
	}
}

func TestThisNodeIsLookedAt(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	if err := os.WriteFile(path, []byte("twelve bytes"), 0o640); err != nil {
		t.Fatal(err)
	}
	i, err := statx(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	cpu, err := cpuFlags()
	if err != nil {
		t.Fatal(err)
	}
	kernel, err := readNode(Needs{}, dir, osthread.User{})
	if err != nil {
		t.Fatal(err)
	}
	n := Needs{Arch: kernel.Arch, CPU: cpu, Memory: 1 << 20, WorkDir: dir, Mounts: []Mount{{Path: dir, Dir: true}}, Files: []File{
		{Path: path, Size: 12, Mode: i.Mode, Inode: i.Ino}, {Path: dir, Size: -1, Mode: modeOf(t, dir)},
	}}
	rec := job.Record{ID: "jaaaaaaaaaa"}
	findings, err := CheckNode(testenv.Bounded(t), n, rec, Node{MemoryDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	wantCodes(t, findings, CRIUMissing)
	n.Files[0].Size, n.Files[0].Inode, n.Bridge = 13, 0, "no-such-bridge"
	n.Files = append(n.Files, File{Path: filepath.Join(dir, "none")})
	n.WorkDir, n.Mounts[0].Path = "/no/such", "/no/such"
	if findings, err = CheckNode(testenv.Bounded(t), n, rec, Node{MemoryDir: dir}); err != nil {
		t.Fatal(err)
	}
	wantCodes(t, findings, CRIUMissing, FileSize, FileMissing, BridgeMissing, WorkDirMissing, MountMissing)
}

func TestAUserIsToldOfFilesThatHeSeesOnly(t *testing.T) {
	testenv.NeedRoot(t)
	dir, err := os.MkdirTemp("/var/tmp", "migrate-preflight-") // that every user reaches
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(at("closed"), 0o700), os.Mkdir(at("closed/dir"), 0o755), os.WriteFile(at("closed/there"), []byte("twelve bytes"), 0o644),
		os.WriteFile(at("open"), []byte("twelve bytes"), 0o644), os.WriteFile(at("his"), []byte("twelve bytes"), 0o644),
		os.Chown(at("his"), 1000, 1000), os.Chmod(at("his"), 0)); err != nil {
		t.Fatal(err)
	}
	const mode = unix.S_IFREG | 0o644
	var told []string
	for name, c := range map[string]struct {
		n    Needs
		want []Code
	}{
		"readable":           {Needs{Files: []File{{Path: at("open"), Size: 12, Mode: mode, Access: unix.R_OK}}}, nil},
		"not writable":       {Needs{Files: []File{{Path: at("open"), Size: 12, Mode: mode, Access: unix.W_OK}}}, []Code{FileDenied}},
		"an owner's":         {Needs{Files: []File{{Path: at("his"), Size: 12, Mode: unix.S_IFREG, Access: unix.R_OK | unix.W_OK}}}, nil},
		"no program":         {Needs{Files: []File{{Path: at("closed"), Size: -1, Mode: unix.S_IFDIR | 0o700, Access: unix.X_OK}}}, []Code{FileDenied}},
		"missing":            {Needs{Files: []File{{Path: at("none"), Mode: mode}}}, []Code{FileMissing}},
		"closed":             {Needs{Files: []File{{Path: at("closed/there"), Size: 12, Mode: mode}}}, []Code{FileDenied}},
		"closed, another":    {Needs{Files: []File{{Path: at("closed/there"), Size: 13, Mode: 7}}}, []Code{FileDenied}},
		"closed, missing":    {Needs{Files: []File{{Path: at("closed/none"), Size: 12, Mode: mode}}}, []Code{FileDenied}},
		"a closed directory": {Needs{WorkDir: at("closed/dir")}, []Code{WorkDirMissing}},
		"a closed root":      {Needs{Root: at("closed/dir")}, []Code{RootMissing}},
		"a closed bind":      {Needs{Mounts: []Mount{{Path: at("closed/none"), Dir: true}}}, nil},
		"a closed mount":     {Needs{Mounts: []Mount{{Path: at("closed/there")}}}, nil},
	} {
		n := c.n
		n.Arch = runtime.GOARCH
		rec := job.Record{ID: "jaaaaaaaaaa", Spec: job.Spec{UID: 1000, GID: 1000, Binds: []job.Bind{{Source: at("closed/none")}}}}
		findings, err := CheckNode(testenv.Bounded(t), n, rec, Node{MemoryDir: "/dev/shm"})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(name)
		wantCodes(t, findings, append([]Code{CRIUMissing}, c.want...)...)
		for _, f := range findings {
			if strings.HasPrefix(name, "closed") && f.Code == FileDenied {
				told = append(told, strings.NewReplacer("there", "X", "none", "X").Replace(f.Cause))
			}
		}
	}
	if slices.Sort(told); len(told) != 3 || told[0] != told[2] || !strings.Contains(told[0], "user 1000 does not get to") {
		t.Errorf("told of a closed directory: %q", told)
	}
}

func TestMemoryThatArrivesTwiceOrElsewhereIsReckonedSo(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Needs)
		want  []Code
	}{
		"fits":                   {func(n *Needs) { n.Memory = 1700 << 20 }, nil},
		"passes through images":  {func(n *Needs) { n.Memory, n.Segments = 1700<<20, 400<<20 }, []Code{MemoryShort}},
		"too large for the room": {func(n *Needs) { n.Memory = 3 << 30 }, []Code{MemoryShort}},
		"files have their own":   {func(n *Needs) { n.Memory, n.InTmpfs = 3<<30, 2<<30 }, nil},
	} {
		var r report
		n := needs()
		c.spoil(&n)
		good().judgeMemory(&r, n)
		if !t.Run(name, func(t *testing.T) { wantCodes(t, r.findings(), c.want...) }) {
			t.Log(r.findings())
		}
	}
	var r report
	n := needs()
	n.Memory, n.CopyOnWrite = 8<<30, 7<<30
	good().judgeMemory(&r, n)
	if f := r.findings(); len(f) != 2 || !strings.Contains(f[0].Cause, "7168 MiB of it by copy-on-write") {
		t.Errorf("findings %+v", f)
	}
}

func TestCopiesMustFitIntoTheJobsLimit(t *testing.T) {
	for name, c := range map[string]struct {
		limit int64
		eager bool
		want  []Code
	}{
		"no limit": {0, false, nil}, "roomy": {8 << 30, false, nil}, "tight": {2 << 30, false, []Code{CopyOnWrite}},
		"shared": {2 << 30, true, nil}, "too small as it is": {512 << 20, false, nil},
	} {
		var r report
		n := needs()
		n.Memory, n.CopyOnWrite, n.Eager = 4<<30, 3<<30, c.eager
		judgeLimit(&r, n, c.limit)
		t.Run(name, func(t *testing.T) { wantCodes(t, r.findings(), c.want...) })
	}
}

func modeOf(t *testing.T, path string) uint32 {
	t.Helper()
	i, err := statx(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	return i.Mode
}

func TestOnlyFlagsThatProgramsUseCount(t *testing.T) {
	text := "processor : 0\nflags\t\t: sse2 avx2 constant_tsc vmx avx\nprocessor : 1\nflags\t\t: avx sse2 md_clear\n"
	if got := usableFlags("amd64", text); !slices.Equal(got, []string{"avx", "sse2"}) {
		t.Errorf("%v", got)
	}
	if got := usableFlags("arm64", "Features\t: fp asimd evtstrm cpuid sve\n"); !slices.Equal(got, []string{"asimd", "fp", "sve"}) {
		t.Errorf("%v", got)
	}
}

func TestAClockThatIsBehindIsRefused(t *testing.T) {
	for d, refused := range map[time.Duration]bool{
		0: false, time.Hour: false, -MaxBehind: false, -MaxBehind - time.Nanosecond: true, -time.Hour: true,
	} {
		f := CheckClocks(d)
		if (f != nil) != refused {
			t.Errorf("skew %v gives %+v", d, f)
		}
		if f != nil {
			wantCodes(t, []Finding{*f}, ClockBehind)
		}
	}
}

func TestPathsInRemediesAreQuoted(t *testing.T) {
	for in, want := range map[string]string{"/a/b-c_1.2": "/a/b-c_1.2", "/a b": "'/a b'", "/a'$(x)": `'/a'\''$(x)'`} {
		if got := quoted(in); got != want {
			t.Errorf("%s becomes %s", in, got)
		}
	}
}
