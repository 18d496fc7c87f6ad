package transfer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/handoff"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/store"
	"github.com/migrate-hpc/migrate/testenv"
)

// ownersDir is a directory of an ordinary user's.
func ownersDir(t *testing.T) string {
	t.Helper()
	testenv.NeedRoot(t)
	dir := testenv.OpenDir(t)
	if err := os.Chown(dir, int(nodetest.Owner.UID), int(nodetest.Owner.GID)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sealed is a checkpoint of an ordinary user's, of nothing that could be restored.
func sealed(t *testing.T, a *Transfers, name string, move handoff.MoveID) store.Ref {
	t.Helper()
	d, err := a.Store.Create(name, string(move), nodetest.Owner.User())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	for _, l := range d.Lanes() {
		if _, err := io.WriteString(l, "the job's"); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := d.Ref()
	if err = errors.Join(err, d.Seal(store.Manifest{Job: []byte("{}"), Node: "here"}, a.Identity.Sign)); err != nil {
		t.Fatal(err)
	}
	return ref
}

func TestWhetherACheckpointIsWholeSaysRootsRecordNotTheDirectory(t *testing.T) {
	a := New(nodetest.New(t))
	a.Identity = testenv.NewAuthority(t).Node(t, "here")
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	rec := nodetest.Known(t, a.Node, nil)
	move := handoff.NewMoveID()
	ref := sealed(t, a, path, move) // and no record says so
	later := a.checkpointAgain(handoff.Record{Move: move}, rec, node.Saving{Checkpoint: ref, User: nodetest.Owner.User()})
	for _, c := range []struct {
		step   string
		do     func() error
		expect handoff.State
	}{
		{"a directory that its user may have made up", func() error { return nil }, handoff.StateDropped},
		{"written down", func() error {
			_, err := a.Jobs.Update(rec.ID, func(r *job.Record) error {
				r.Sealed = string(move)
				return nil
			})
			return err
		}, handoff.StatePrepared},
		{"removed by its user since", func() error { return os.RemoveAll(path) }, handoff.StatePrepared},
		{"another checkpoint of the job's", func() error {
			later.id = handoff.NewMoveID()
			return nil
		}, handoff.StateDropped},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		if state, err := later.Outcome(testenv.Bounded(t)); state != c.expect || err != nil {
			t.Errorf("%s: %s, %v", c.step, state, err)
		}
	}
	var err error
	if later.a.Jobs, err = job.OpenStore(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if state, err := later.Outcome(testenv.Bounded(t)); state != handoff.StateDropped || err != nil { // the job was removed
		t.Errorf("%s, %v", state, err)
	}
}

// stuck is a file on a server that is away, until that is back.
func TestAPipeInADirectoryHoldsUpNoRestore(t *testing.T) {
	a := New(nodetest.New(t))
	a.Identity = testenv.NewAuthority(t).Node(t, "here")
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	for _, name := range []string{"lane-0", "manifest.json", "manifest.sig"} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		sealed(t, a, path, "m1")
		file := filepath.Join(path, name)
		if err := caller.As(nodetest.Owner, func() error { return errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600)) }); err != nil {
			t.Fatal(err)
		}
		b := &restoreOp{a: a, req: api.RestoreRequest{Dir: path}}
		err := b.open(testenv.Bounded(t), nodetest.Owner)
		b.close()
		if nodetest.CodeOf(err) != api.CodeRefused || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A checkpoint of an older version: its files are root's, its directory is the user's.
