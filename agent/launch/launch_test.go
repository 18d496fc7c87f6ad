package launch

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/preflight"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestFillInSetsWhatIsOpenAndKeepsWhatIsSaid(t *testing.T) {
	a := &Launcher{Node: nodetest.New(t)}
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{Network: job.Network{Mode: "br0"}, UserNS: true}}
	if err := a.FillIn(&rec); err != nil {
		t.Fatal(err)
	}
	s := rec.Spec
	mac, err := net.ParseMAC(s.Network.MAC)
	if err != nil || mac[0]&1 != 0 || mac[0]&2 == 0 {
		t.Errorf("MAC %s is not unicast and locally administered (%v)", s.Network.MAC, err)
	}
	if s.Hostname != string(rec.ID) || s.WorkDir != "/" || s.UIDBase%job.IDRange != 0 || s.UIDBase < job.FirstBase {
		t.Errorf("settled as %+v", s)
	}
	again := rec
	again.Mounts = nil
	if err := a.FillIn(&again); err != nil || again.Spec.UIDBase != s.UIDBase || again.Spec.Network.MAC != s.Network.MAC {
		t.Errorf("settled again as %+v (%v)", again.Spec, err)
	}
	own := job.Record{ID: job.NewID(), Spec: job.Spec{Root: "/srv/image", Hostname: "h", WorkDir: "/w"}}
	if err := a.FillIn(&own); err != nil || own.Mounts != nil || own.Spec.Hostname != "h" || own.Spec.WorkDir != "/w" || own.Spec.Network.MAC != "" {
		t.Errorf("settled as %+v (%v)", own, err)
	}
}

func TestMACsDiffer(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		seen[NewMAC()] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d of 100 are different", len(seen))
	}
}

func TestInitThatIsMissingIsNamed(t *testing.T) {
	a, dir := &Launcher{Node: nodetest.New(t)}, t.TempDir()
	t.Setenv("PATH", dir)
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{Init: true, Args: []string{"true"}}}
	if err := a.FillIn(&rec); err == nil || !strings.Contains(err.Error(), "catatonit") {
		t.Errorf("got %v", err)
	}
	path := filepath.Join(dir, "catatonit")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := a.FillIn(&rec); err != nil || !slices.Equal(rec.Spec.Args, []string{path, "--", "true"}) {
		t.Errorf("got %v %v", rec.Spec.Args, err)
	}
	image := job.Record{ID: job.NewID(), Spec: job.Spec{Init: true, Root: t.TempDir(), Args: []string{"true"}}}
	if err := a.FillIn(&image); err == nil || !strings.Contains(err.Error(), "catatonit") {
		t.Errorf("an image without it: %v", err)
	}
}

func TestUserNamespaceNeedsAWayThroughToItsDirectories(t *testing.T) {
	dir := testenv.OpenDir(t)
	deep := filepath.Join(dir, "closed", "deep")
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := checkSearchable(deep, dir); err != nil {
		t.Errorf("open: %v", err)
	}
	if err := os.Chmod(filepath.Dir(deep), 0o750); err != nil {
		t.Fatal(err)
	}
	if err := checkSearchable(dir, deep); err == nil || !strings.Contains(err.Error(), "chmod o+x "+filepath.Dir(deep)) {
		t.Errorf("closed: %v", err)
	}
	if err := checkSearchable(filepath.Join(dir, "none")); err == nil {
		t.Error("a directory that is missing is passable")
	}
}

func TestWorkDirectoryInTheNodesTmpIsRefusedBeforeTheStart(t *testing.T) {
	bind := job.Bind{Source: "/tmp/data", Target: "/tmp/data"}
	for _, c := range []struct {
		dir   string
		binds []job.Bind
		ok    bool
	}{
		{"/tmp", nil, true}, {"/home/u", nil, true}, {"/tmpfiles/x", nil, true}, {"/tmp/x", nil, false},
		{"/tmp/data", []job.Bind{bind}, true}, {"/tmp/data/deep", []job.Bind{bind}, true}, {"/tmp/database", []job.Bind{bind}, false},
	} {
		err := CheckWorkDir(job.Spec{WorkDir: c.dir, Binds: c.binds})
		if (err == nil) != c.ok || (err != nil && nodetest.CodeOf(err) != api.CodeUsage) {
			t.Errorf("%s with %v: %v", c.dir, c.binds, err)
		}
	}
}

func TestLimitThatIsUnknownIsNamed(t *testing.T) {
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{Rlimits: []job.Rlimit{{Name: "patience"}}}}
	if _, err := NamespaceConfig(rec, "/root", "/io"); err == nil || !strings.Contains(err.Error(), "patience") {
		t.Errorf("got %v", err)
	}
	rec.Spec = job.Spec{UserNS: true, UIDBase: 1 << 30, UID: 1000, Groups: []uint32{5}}
	cfg, err := NamespaceConfig(rec, "/root", "/io")
	if err != nil || !cfg.User || len(cfg.UIDs) == 0 || cfg.Stdin != "/dev/null" {
		t.Errorf("got %+v %v", cfg, err)
	}
}

func TestBindSourcesMustBeReachableByTheCallerItself(t *testing.T) {
	testenv.NeedRoot(t)
	dir := testenv.OpenDir(t)
	closed := filepath.Join(dir, "closed")
	if err := os.MkdirAll(filepath.Join(closed, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	deep := job.Spec{Binds: []job.Bind{{Source: filepath.Join(closed, "deep"), Target: "/x"}}}
	if err := CheckReachable(nodetest.Owner, deep); err == nil || !strings.Contains(err.Error(), "deep") {
		t.Errorf("a closed directory is opened by a bind: %v", err)
	}
	if err := CheckReachable(nodetest.Operator, deep); err != nil {
		t.Error(err)
	}
	if err := os.Chown(closed, 0, 777); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(closed, 0o710); err != nil {
		t.Fatal(err)
	}
	if err := CheckReachable(nodetest.Owner, deep); err == nil {
		t.Error("a group that the caller is not in lets it through")
	}
	if err := CheckReachable(caller.Caller{UID: 1000, GID: 1000, Groups: []uint32{5, 777}}, deep); err != nil {
		t.Errorf("the caller's group counts: %v", err)
	}
	deep.UID, deep.GID = nodetest.Owner.UID, nodetest.Owner.GID
	if found := UnreachableFindings(deep); len(found) != 1 || found[0].Code != preflight.MountMissing || !strings.Contains(found[0].Cause, "deep") {
		t.Errorf("on a target: %v", found)
	}
	deep.Groups = []uint32{777}
	if found := UnreachableFindings(deep); len(found) != 0 {
		t.Errorf("on a target, with the group: %v", found)
	}
	magic := job.Spec{Binds: []job.Bind{{Source: "/proc/self/cwd", Target: "/x"}}}
	if err := CheckReachable(nodetest.Owner, magic); err == nil {
		t.Error("a link of /proc leads to where the agent is")
	}
}

func TestBindTargetsAreLookedUpInTheJobsRoot(t *testing.T) {
	testenv.NeedRoot(t)
	root := testenv.OpenDir(t)
	if err := errors.Join(os.MkdirAll(filepath.Join(root, "export/home/u"), 0o755), os.Symlink("/export/home", filepath.Join(root, "home")),
		os.Symlink("/usr", filepath.Join(root, "away")), os.Mkdir(filepath.Join(root, "closed"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for target, there := range map[string]bool{"/home/u": true, "/away": false, "/none": false, "/closed/x": false, "/tmp/none": true} {
		err := CheckBindTargets(nodetest.Owner, job.Spec{Root: root, Binds: []job.Bind{{Source: "/usr", Target: target}}})
		if (err == nil) != there {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestStartThatHasEndedIsCountedNoMore(t *testing.T) {
	a := &Launcher{Node: nodetest.New(t)}
	done, err := a.Admit(1000)
	if err != nil {
		t.Fatal(err)
	}
	if a.starting[1000] != 1 {
		t.Errorf("while it starts: %v", a.starting)
	}
	done()
	if len(a.starting) > 0 {
		t.Errorf("after: %v", a.starting)
	}
}

func TestUserNamespaceRefusesMoreGroupsThanTheKernelMaps(t *testing.T) {
	a := &Launcher{Node: nodetest.New(t)}
	rec := job.Record{ID: job.NewID(), Spec: job.Spec{UID: 1000, GID: 1000, UserNS: true, Root: "/"}}
	for g := range uint32(1000) {
		rec.Spec.Groups = append(rec.Spec.Groups, 2*g)
	}
	if err := a.FillIn(&rec); err == nil || !strings.Contains(err.Error(), "1000 groups") || !strings.Contains(err.Error(), "without --user-ns") {
		t.Errorf("got %v", err)
	}
}
