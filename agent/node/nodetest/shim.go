package nodetest

import (
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/testenv"
)

// Cgroup makes a cgroup beside which jobs that are started get theirs.
func Cgroup(t testing.TB) *cgroup.Cgroup {
	t.Helper()
	testenv.NeedRoot(t)
	cg, err := cgroup.New(os.Getpid(), "migrate-test-"+string(job.NewID()))
	if err != nil {
		testenv.Missing(t, "no cgroup can be made: %v", err)
	}
	t.Cleanup(func() {
		if err := cg.Remove(); err != nil {
			t.Error(err)
		}
	})
	return cg
}

// FrozenCgroup is a frozen cgroup without a task.
func FrozenCgroup(t testing.TB) *cgroup.Cgroup {
	t.Helper()
	cg := Cgroup(t)
	if err := cg.Freeze(testenv.Bounded(t)); err != nil {
		t.Fatal(err)
	}
	return cg
}

// PlayShim answers for the shim of a job, as h does.
func PlayShim(t testing.TB, n *node.Node, id job.ID, h http.HandlerFunc) {
	t.Helper()
	dir := n.Paths.JobRun(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "shim.sock"))
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go func() { _ = srv.Serve(l) }()      // until it is closed
	t.Cleanup(func() { _ = srv.Close() }) // without waiting for handlers, which may hang on purpose
}
