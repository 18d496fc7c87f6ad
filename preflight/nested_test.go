package preflight

import (
	"slices"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/procfs"
)

func TestMountAndNetworkNamespacesInsideAJobsMoveIfTheyAreWhollyTheJobs(t *testing.T) {
	for name, c := range map[string]struct {
		spaces    []space
		alien     []string
		connected bool
		want      []Code
	}{
		"PID 1's":                   {spaces: []space{{"net", "net:[1]"}}},
		"mounts and network":        {spaces: []space{{"net", "net:[9]"}, {"mnt", "mnt:[8]"}}},
		"another kind":              {spaces: []space{{"uts", "uts:[9]"}}, want: []Code{NestedNamespace}},
		"of children":               {spaces: []space{{"pid_for_children", "pid:[9]"}}, want: []Code{NestedNamespace}},
		"threads apart":             {spaces: []space{{"net", "net:[1]"}, {"net", "net:[9]"}}, want: []Code{NestedNamespace}},
		"of another user namespace": {spaces: []space{{"mnt", "mnt:[8]"}}, alien: []string{"mnt"}, want: []Code{NestedNamespace}},
		"with connections":          {spaces: []space{{"net", "net:[9]"}}, connected: true, want: []Code{NestedNamespace}},
	} {
		j, r := facts(), report{}
		j.Spaces = map[string]string{"net": "net:[1]", "mnt": "mnt:[2]", "uts": "uts:[3]", "pid": "pid:[4]"}
		j.Tasks[0].Spaces, j.Tasks[0].Alien, j.Tasks[0].Connected = c.spaces, c.alien, c.connected
		j.judgeSpaces(&r, j.Tasks[0])
		if got := r.findings(); len(got) != len(c.want) || len(got) > 0 && got[0].Code != c.want[0] {
			t.Errorf("%s: %v", name, got)
		}
	}
	j := facts()
	if j.nests() {
		t.Error("a job with no namespace inside is said to have one")
	}
	j.Tasks[0].Spaces = []space{{"net", "net:[9]"}}
	if !j.nests() || CheckNested(Needs{Nested: true}, false, "b") == nil || CheckNested(Needs{Nested: true}, true, "b") != nil || CheckNested(Needs{}, false, "b") != nil {
		t.Error("a job with a namespace inside goes to agents that know of them, and no other")
	}
}

func TestFilesInANestedMountNamespaceAreFoundOnTheNode(t *testing.T) {
	v := facts().view
	for i := range v.mounts {
		v.mounts[i].Root = "/"
	}
	v.mounts = append(v.mounts, procfs.MountPoint{ID: "13", Target: "/scratch", Device: "8:1", Root: "/data/x", Type: "ext4"})
	v.declared["/scratch"] = "/data/x"
	v.nested = []nestedMounts{{name: "mnt:[9]", root: 1, mounts: []procfs.MountPoint{
		{ID: "20", Target: "/", Device: "0:99", Root: "/", Type: "tmpfs"},
		{ID: "21", Target: "/usr", Device: "8:1", Root: "/usr", Type: "ext4"},
		{ID: "22", Target: "/mine", Device: "8:1", Root: "/data/x/me", Type: "ext4"},
		{ID: "23", Target: "/h", Device: "0:51", Root: "/a", Type: "nfs4"},
		{ID: "24", Target: "/z", Device: "0:60", Root: "/", Type: "xfs"},
	}}}
	for _, c := range []struct {
		link  string
		mount uint64
		want  string
	}{
		{"/etc/f", 10, "/etc/f"}, {"/home/f", 12, "/home/f"}, {"/f", 20, ""}, {"/usr/bin/f", 21, "/usr/bin/f"}, {"/mine/f", 22, "/data/x/me/f"},
		{"/h/f", 23, "/home/a/f"}, {"/z/f", 24, ""}, {"/elsewhere/f", 21, ""},
	} {
		got, ok := v.filePath(regular(c.link, c.mount, 1), c.link)
		if got != c.want || ok != (c.want != "") {
			t.Errorf("%s on mount %d is %q (%v), want %q", c.link, c.mount, got, ok, c.want)
		}
	}
	j, r := facts(), report{}
	j.view = v
	j.judgeMounts(&r)
	if got := r.findings(); len(got) != 1 || got[0].Code != MountUnsupported || !strings.Contains(got[0].Cause, "xfs at /z") {
		t.Errorf("of the mounts: %v", got)
	}
	for _, outside := range []uint64{24, 99} {
		r = report{}
		if held := j.judgeOutside(&r, j.Tasks[0], regular("/f", outside, 1)); held != (outside == 24) {
			t.Errorf("mount %d: %v", outside, r.findings())
		}
	}
}

func TestAMountAtAPathThatCRIUDoesNotReadIsFound(t *testing.T) {
	for size, want := range map[int]int{maxMountPath: 0, maxMountPath + 1: 1, maxMountPath/4 + 2: 0} {
		j, r := facts(), report{}
		j.view.mounts = slices.Insert(j.view.mounts, 1, procfs.MountPoint{ID: "30", Target: "/" + strings.Repeat("x", size-1), Device: "0:70", Type: "tmpfs"})
		j.judgeMounts(&r)
		if got := r.findings(); len(got) != want {
			t.Errorf("%d bytes: %v", size, got)
		}
	}
	r := report{}
	judgeMountPath(&r, procfs.MountPoint{Target: "/" + strings.Repeat(" ", maxMountPath/4+1)})
	if len(r.findings()) != 1 {
		t.Error("spaces take four bytes each")
	}
}
