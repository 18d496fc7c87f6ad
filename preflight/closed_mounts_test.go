package preflight

import (
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/job"
)

func TestMountsBeneathADirectoryThatIsClosedToTheNamespaceAreFound(t *testing.T) {
	const user, group, base = 1000, 50, 1 << 20
	tree := map[string]owned{
		"/open": {0, 0, 0o755}, "/roots": {0, 0, 0o700}, "/roots/open": {0, 0, 0o755}, "/groups": {0, group, 0o750},
		"/users": {user, group, 0o700}, "/others": {2000, group, 0o700}, "/private": {base + 5, base + 6, 0o700}, "/half": {user, 7, 0o700},
	}
	stat := func(dir string) (owned, bool) { d, ok := tree[dir]; return d, ok }
	rec := job.Record{Spec: job.Spec{UserNS: true, UIDBase: base, UID: user, GID: group}}
	for _, dir := range []string{"/open/in", "/roots", "/roots/open/in", "/groups/in", "/users/in", "/others/in", "/private/in", "/half/in", "/missing/in"} {
		rec.Mounts = append(rec.Mounts, job.Bind{Source: dir, Target: dir})
	}
	want := []string{"/roots/open/in", "/groups/in", "/others/in", "/half/in"}
	if got := closedMounts(rec, stat); !slices.Equal(got, want) {
		t.Errorf("closed are %v, want %v", got, want)
	}
	var r report
	judgeClosedMounts(&r, want)
	judgeClosedMounts(&r, nil)
	wantCodes(t, r.findings(), MountClosed)
	for _, change := range []func(*job.Spec){func(s *job.Spec) { s.UserNS = false }, func(s *job.Spec) { s.Root = "/image" }} {
		other := rec
		change(&other.Spec)
		if got := closedMounts(other, stat); got != nil {
			t.Errorf("%+v: %v", other.Spec, got)
		}
	}
}
