package restore

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/e2e/tamper"
	"github.com/migrate-hpc/migrate/identity"
	"github.com/migrate-hpc/migrate/namespaces"
)

// The images are of real jobs: root's with the groups 4 and 27, and user 12345's in a user
// namespace. Each job has two processes of several threads. One thread has two seccomp
// filters. The images of a plain user are made of root's.
const (
	ofRoot   = "../criu/image/testdata/identity-root"
	ofUserNS = "../criu/image/testdata/identity-user-ns"
	base     = 1316487168 // of the latter's ids
)

var jobs = map[string]struct {
	dir  string
	rule identity.Rule
	// mayKeep are fields in which a change gives no right that the rule does not give.
	mayKeep []string
	// mustLack is a change that gives a right all the same.
	mustLack string
}{
	"root's": {ofRoot, identity.Rule{Groups: []uint32{4, 27}}, []string{"creds.", "seccomp", "threads", "task_state", "ids.mnt", "ids.net"}, ""},
	"in a user namespace": {ofUserNS, identity.Rule{UID: 12345, GID: 12345, UserNS: true,
		UIDs: mapsOf(base), GIDs: mapsOf(base)}, []string{"creds.cap_bnd", "seccomp", "threads", "task_state"},
		"creds.cap_bnd = [4294967295 511]"}, // CAP_SETGID
	"a plain user's": {"", identity.Rule{UID: 12345, GID: 12346, Groups: []uint32{4, 27}}, []string{"creds.cap_bnd", "seccomp", "threads", "task_state"}, ""},
}

func mapsOf(base uint32) []namespaces.IDMap {
	maps, _ := namespaces.PrivateMaps(base, 12345, 12345, nil)
	return maps
}

func imagesOf(t testing.TB, kind string) string {
	t.Helper()
	dir, from := filepath.Join(t.TempDir(), "images"), jobs[kind].dir
	if from == "" {
		from = ofRoot
	}
	if err := os.CopyFS(dir, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
	if jobs[kind].dir == "" {
		if err := tamper.Become(dir, 12345, 12346, 4, 27); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func planOf(dir, kind string) Plan { return Plan{Images: dir, Rule: jobs[kind].rule, Recorded: true} }

func TestImagesThatSayWhatTheRecordSaysAreTaken(t *testing.T) {
	for kind := range jobs {
		if who, err := planOf(imagesOf(t, kind), kind).identityFromImages(); err != nil || len(who.want.Threads) < 4 {
			t.Errorf("%s: %+v, %v", kind, who, err)
		}
	}
}

// eachMutation shows a directory of images for each change of one thing in it.
func eachMutation(t *testing.T, kind string, seeds int, look func(dir string, m tamper.Mutation)) {
	t.Helper()
	dir, total := imagesOf(t, kind), 0
	for seed := range seeds {
		all, err := tamper.Mutations(dir, rand.New(rand.NewPCG(uint64(seed), 14)))
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			before, err := os.ReadFile(filepath.Join(dir, m.File))
			if err == nil {
				err = m.Apply(dir)
			}
			if err != nil {
				t.Fatal(err)
			}
			look(dir, m)
			if err := os.WriteFile(filepath.Join(dir, m.File), before, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		total += len(all)
	}
	t.Logf("%d changes", total)
	if total < 1000 {
		t.Errorf("only %d changes were tried", total)
	}
}

func TestNoChangeOfWhoTheThreadsAreIsTaken(t *testing.T) {
	for kind := range jobs {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			eachMutation(t, kind, 1, func(dir string, m tamper.Mutation) {
				if _, err := planOf(dir, kind).identityFromImages(); err == nil {
					t.Errorf("%v: it was taken", m)
				}
			})
		})
	}
}

func TestNoRecordMakesUpForWhatTheSpecificationDoesNotGive(t *testing.T) {
	for kind, job := range jobs {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			eachMutation(t, kind, 1, func(dir string, m tamper.Mutation) {
				record, err := os.ReadFile(filepath.Join(dir, "migrate-identity.json"))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = os.WriteFile(filepath.Join(dir, "migrate-identity.json"), record, 0o600) }()
				if tamper.Forge(dir) != nil {
					return // not even the images make sense
				}
				_, err = planOf(dir, kind).identityFromImages()
				harmless := m.Field != "creds.no_new_privs" && slices.ContainsFunc(job.mayKeep, func(f string) bool { return strings.HasPrefix(m.Field, f) }) &&
					(job.mustLack == "" || !strings.HasSuffix(m.String(), job.mustLack))
				if err == nil && !harmless {
					t.Errorf("%v: it was taken", m)
				}
				var d identity.Differences
				if err != nil && harmless && (errors.As(err, &d) || errors.Is(err, image.ErrMissing)) {
					t.Errorf("%v: a right is not the reason to refuse it: %v", m, err)
				}
			})
		})
	}
}

func TestImagesWithoutARecordAreTakenOfOlderOnesOnly(t *testing.T) {
	for kind := range jobs {
		dir := imagesOf(t, kind)
		if err := os.Remove(filepath.Join(dir, "migrate-identity.json")); err != nil {
			t.Fatal(err)
		}
		plan := planOf(dir, kind)
		if _, err := plan.identityFromImages(); !errors.Is(err, image.ErrMissing) {
			t.Errorf("%s: %v", kind, err)
		}
		plan.Recorded = false
		if _, err := plan.identityFromImages(); err != nil {
			t.Errorf("%s, of an older migrate: %v", kind, err)
		}
		plan.Rule.UID, plan.Rule.UIDs = 12399, nil
		if kind == "root's" {
			plan.Rule.UserNS = true
		}
		if _, err := plan.identityFromImages(); err == nil {
			t.Errorf("%s, of an older migrate and another user: it was taken", kind)
		}
	}
}

// FuzzCredentials changes a number of a thread's credentials, and wants that to be refused.
func FuzzCredentials(f *testing.F) {
	dirs := map[string]string{}
	for kind := range jobs {
		dirs[kind] = imagesOf(f, kind)
	}
	kinds := []string{"root's", "in a user namespace", "a plain user's"}
	for i := range uint8(16) {
		f.Add(i, i, i, uint32(0))
		f.Add(i, i, i, ^uint32(0))
	}
	f.Fuzz(func(t *testing.T, kind, core, field uint8, value uint32) {
		name := kinds[int(kind)%len(kinds)]
		file, changed, err := tamper.Number(dirs[name], int(core), int(field), value)
		if err != nil {
			t.Fatal(err)
		}
		if changed == nil {
			return // it has this number
		}
		before, err := os.ReadFile(file)
		if err != nil || bytes.Equal(before, changed) {
			t.Fatal("nothing was changed", err)
		}
		defer func() { _ = os.WriteFile(file, before, 0o600) }()
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := planOf(dirs[name], name).identityFromImages(); err == nil {
			t.Errorf("%s, field %d = %d of a job %s: it was taken", filepath.Base(file), field, value, name)
		}
	})
}
