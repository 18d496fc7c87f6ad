package criu

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// slowRun skips where CRIU keeps the cache itself.
func slowRun(t testing.TB) {
	t.Helper()
	var where unix.Statfs_t
	if err := unix.Statfs(runDir, &where); err != nil {
		t.Fatal(err)
	}
	if where.Type == unix.TMPFS_MAGIC {
		t.Skipf("%s is a tmpfs, CRIU keeps its own cache there", runDir)
	}
}

// caches lists the caches in a directory.
func caches(t testing.TB, dir string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, kdatPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func TestTheProbesAreMadeOncePerBootAndUsedByEveryClient(t *testing.T) {
	slowRun(t)
	path, dir := realCRIU(t).Path(), t.TempDir()
	old := filepath.Join(dir, kdatPrefix+"other-boot-0000000000000000")
	if err := os.WriteFile(old, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var made os.FileInfo
	for range 2 {
		if _, err := New(path, dir, quiet()).Features(testenv.Bounded(t)); err != nil {
			t.Fatal(err)
		}
		names := caches(t, dir)
		if len(names) != 1 || names[0] == old {
			t.Fatalf("caches %q", names)
		}
		info, err := os.Stat(names[0])
		if err != nil {
			t.Fatal(err)
		}
		if made != nil && !os.SameFile(made, info) {
			t.Error("the second client made the cache again")
		}
		made = info
	}
	if made.Size() == 0 {
		t.Error("the cache is empty")
	}
	if info, err := os.Stat(kdatPath); err != nil || info.Size() != 0 {
		t.Errorf("the node's own %s: %v, %v", kdatPath, info, err)
	}
}

func TestWithoutAUsableCacheDirectoryCRIUWorksAsWell(t *testing.T) {
	path := realCRIU(t).Path()
	for _, dir := range []string{"", filepath.Join(t.TempDir(), "none")} {
		if _, err := New(path, dir, quiet()).Features(testenv.Bounded(t)); err != nil {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

func BenchmarkLazyDump(b *testing.B) {
	c, j := realCRIU(b), startJob(b, 64)
	for _, bench := range []struct{ name, cache string }{{"probing", ""}, {"cached", b.TempDir()}} {
		b.Run(bench.name, func(b *testing.B) {
			c := New(c.Path(), bench.cache, quiet())
			if _, err := c.Version(testenv.Bounded(b)); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				req, _, log := dumpRequest(b, j)
				j.cgroup.freeze(b)
				if _, err := c.DumpLazy(testenv.Bounded(b), req, Run{LogFile: log}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
