package transfer

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/criu/image"
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

// ownersDirectory is a checkpoint of theirs that is being written.
func ownersDirectory(t *testing.T, path string) *directory {
	t.Helper()
	d, err := newDirectory(path, "m1", nodetest.Owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Discard)
	for _, l := range d.lanes {
		if _, err := io.WriteString(l, "the job's"); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// exchange renames a file of the owner's, with the owner's rights, over one in a directory.
func exchange(over string) error {
	return caller.As(nodetest.Owner, func() error {
		mine := filepath.Join(filepath.Dir(filepath.Dir(over)), "mine")
		return errors.Join(os.WriteFile(mine, []byte("not hers!"), 0o600), os.Rename(mine, over))
	})
}

func ownerOfPath(t *testing.T, path string) int {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Sys().(*syscall.Stat_t).Uid)
}

func inodeOfPath(t *testing.T, path string) node.Inode {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		t.Fatal(err)
	}
	return node.InodeOf(st)
}

func TestADirectoryIsRootsWhileItIsWrittenAndItsUsersAfterwards(t *testing.T) {
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	d := ownersDirectory(t, path)
	d.shut()
	temp := filepath.Join(home, d.temp())
	if err := exchange(filepath.Join(temp, "lane-0")); !errors.Is(err, unix.EACCES) {
		t.Errorf("its user gets in while it is written: %v", err)
	}
	if uid := ownerOfPath(t, temp); uid != 0 {
		t.Errorf("it belongs to user %d", uid)
	}
	id := testenv.NewAuthority(t).Node(t, "here")
	if err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, id.Sign); err != nil {
		t.Fatal(err)
	}
	d.Discard()
	for _, name := range append(testenv.Names(t, path), ".") {
		if uid := ownerOfPath(t, filepath.Join(path, name)); uid != int(nodetest.Owner.UID) {
			t.Errorf("%s belongs to user %d", name, uid)
		}
	}
	s := openSealed(t, path, nodetest.Owner, id.Verify)
	if got, err := io.ReadAll(s.Reader(0)); err != nil || string(got) != "the job's" {
		t.Errorf("it holds %q, %v", got, err)
	}
}

// Where root is nobody, as with NFS, its user gets in.
func TestADirectoryThatCannotBeShutIsNotSealedOverWhatItsUserPutThere(t *testing.T) {
	home := ownersDir(t)
	d := ownersDirectory(t, filepath.Join(home, "saved"))
	if err := exchange(filepath.Join(home, d.temp(), "lane-0")); err != nil {
		t.Fatal(err)
	}
	signed := false
	err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, func(data []byte) (sig, cert []byte, err error) {
		signed = true
		if strings.Contains(string(data), "not hers") {
			t.Error("what the user put there is signed")
		}
		return nil, nil, nil
	})
	if !signed || !errors.Is(err, image.ErrExtra) {
		t.Errorf("got %v", err)
	}
	d.Discard()
	if got := testenv.Names(t, home); len(got) > 0 {
		t.Errorf("left are %v", got)
	}
}

func TestAnAgentThatComesToOpensADirectoryThatItsPredecessorShut(t *testing.T) {
	for _, sealed := range []bool{false, true} {
		home := ownersDir(t)
		path := filepath.Join(home, "saved")
		d := ownersDirectory(t, path)
		d.shut()
		if sealed {
			if err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, testenv.NewAuthority(t).Node(t, "here").Sign); err != nil {
				t.Fatal(err)
			}
		}
		id := d.id
		d.whole = true // nobody discards it: its agent was killed
		d.close()
		found := &directory{path: path, owner: nodetest.Owner, move: "m1", id: id}
		if err := errors.Join(found.remove(), found.remove()); err != nil {
			t.Error(err)
		}
		if got := testenv.Names(t, home); len(got) > 0 {
			t.Errorf("left are %v", got)
		}
	}
}

// What has the name of a checkpoint that was given up, and is something else, is left as it
// is: a user may name what is root's so, if only it lies in a directory of the user's.
func TestAnotherDirectoryOfTheSameNameStaysRoots(t *testing.T) {
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	d := ownersDirectory(t, path)
	d.shut()
	id := d.id
	d.whole = true
	d.close()
	temp := filepath.Join(home, d.temp())
	secret := filepath.Join(home, "roots")
	if err := errors.Join(os.Mkdir(secret, 0o700), os.WriteFile(filepath.Join(secret, "lane-0"), nil, 0o600), os.WriteFile(filepath.Join(secret, "file"), []byte("secret"), 0o600)); err != nil {
		t.Fatal(err)
	}
	err := caller.As(nodetest.Owner, func() error { return errors.Join(os.Rename(temp, temp+".away"), os.Rename(secret, temp)) })
	if err != nil {
		t.Fatal(err)
	}
	for number, id := range map[string]node.Inode{"its own": id, "that of the one that is gone": inodeOfPath(t, temp)} {
		err := (&directory{path: path, owner: nodetest.Owner, move: "m1", id: id}).remove()
		if uid, got := ownerOfPath(t, temp), testenv.Names(t, temp); uid != 0 || len(got) != 2 {
			t.Errorf("root's directory, with %s inode, belongs to user %d and holds %v (%v)", number, uid, got, err)
		}
	}
}

func TestWhetherACheckpointIsWholeSaysRootsRecordNotTheDirectory(t *testing.T) {
	a := New(nodetest.New(t))
	a.Identity = testenv.NewAuthority(t).Node(t, "here")
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	rec := nodetest.Known(t, a.Node, nil)
	move := handoff.NewMoveID()
	d, err := newDirectory(path, string(move), nodetest.Owner)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Discard()
	if err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, a.Identity.Sign); err != nil { // nobody has written down that
		t.Fatal(err)
	}
	later := &checkpointOp{a: a, recovering: true, rec: rec, id: move, dir: &directory{path: path, owner: nodetest.Owner, move: string(move), id: d.id}}
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
	if later.a.Jobs, err = job.OpenStore(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	if state, err := later.Outcome(testenv.Bounded(t)); state != handoff.StateDropped || err != nil { // the job was removed
		t.Errorf("%s, %v", state, err)
	}
}

// stuck is a file on a server that is away, until that is back.
type stuck struct{ asked, back chan struct{} }

func (s stuck) Read([]byte) (int, error) {
	s.asked <- struct{}{}
	<-s.back
	return 0, io.EOF
}

func (s stuck) Write(p []byte) (int, error) {
	s.asked <- struct{}{}
	<-s.back
	return len(p), nil
}

func TestAFileServerThatIsAwayHoldsUpNobodyButWhoWritesToIt(t *testing.T) {
	server, stop := stuck{make(chan struct{}), make(chan struct{})}, make(chan struct{})
	var count atomic.Int64
	l := newLaneWriter(nodetest.Operator, server, &count, stop)
	written := make(chan error)
	go func() {
		_, err := l.Write(make([]byte, (laneBuffers+2)*laneBuffer)) // more than waits in memory
		written <- err
	}()
	<-server.asked
	close(stop)
	if err := <-written; !errors.Is(err, errGivenUp) {
		t.Errorf("got %v", err)
	}
	if err := l.finish(); !errors.Is(err, errGivenUp) {
		t.Errorf("got %v", err)
	}
	close(server.back)
	<-l.done
}

func TestAFileServerThatIsAwayHoldsUpNobodyButWhoReadsFromIt(t *testing.T) {
	server, stop := stuck{make(chan struct{}), make(chan struct{})}, make(chan struct{})
	l := newLaneReader(server, stop)
	read := make(chan error)
	go func() {
		_, err := l.Read(make([]byte, 1))
		read <- err
	}()
	<-server.asked
	close(stop)
	if err := <-read; !errors.Is(err, errGivenUp) {
		t.Errorf("got %v", err)
	}
	close(server.back)
	<-l.done
}

// broken is a disk that takes so many bytes.
type broken int

func (b *broken) Write(p []byte) (int, error) {
	n := min(len(p), int(*b))
	if *b -= broken(n); n < len(p) {
		return n, unix.ENOSPC
	}
	return n, nil
}

func TestALaneThatCannotBeWrittenSaysSoAtTheLatestAtItsEnd(t *testing.T) {
	for _, room := range []int{0, 10, laneBuffer, 3*laneBuffer + 1} {
		var count atomic.Int64
		disk := broken(room)
		l := newLaneWriter(nodetest.Operator, &disk, &count, make(chan struct{}))
		_, err := l.Write(make([]byte, 5*laneBuffer+5))
		if finished := l.finish(); !errors.Is(finished, unix.ENOSPC) || err != nil && !errors.Is(err, unix.ENOSPC) {
			t.Errorf("room for %d: %v, then %v", room, err, finished)
		}
		if count.Load() != int64(room) {
			t.Errorf("room for %d: %d were written", room, count.Load())
		}
	}
}

// A restore of a user's must not wait for anything that the user has put there.
func TestAPipeInADirectoryHoldsUpNoRestore(t *testing.T) {
	a := New(nodetest.New(t))
	a.Identity = testenv.NewAuthority(t).Node(t, "here")
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	for _, name := range []string{"lane-0", "manifest.json", "manifest.sig"} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		d := ownersDirectory(t, path)
		if err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, a.Identity.Sign); err != nil {
			t.Fatal(err)
		}
		d.Discard()
		file := filepath.Join(path, name)
		if err := caller.As(nodetest.Owner, func() error { return errors.Join(os.Remove(file), unix.Mkfifo(file, 0o600)) }); err != nil {
			t.Fatal(err)
		}
		b := &restoreOp{a: a, req: api.RestoreRequest{Dir: path}, owner: nodetest.Owner}
		err := b.open(testenv.Bounded(t), nodetest.Owner)
		b.close()
		if nodetest.CodeOf(err) != api.CodeRefused || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A checkpoint of an older version: its files are root's, its directory is the user's.
func TestADirectoryWithFilesOfRootsIsRead(t *testing.T) {
	home := ownersDir(t)
	path := filepath.Join(home, "saved")
	d := ownersDirectory(t, path)
	id := testenv.NewAuthority(t).Node(t, "here")
	if err := d.seal(store.Manifest{Job: []byte("{}"), Node: "here"}, id.Sign); err != nil {
		t.Fatal(err)
	}
	d.Discard()
	for _, name := range testenv.Names(t, path) {
		if err := os.Chown(filepath.Join(path, name), 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	s := openSealed(t, path, nodetest.Owner, id.Verify)
	if got, err := io.ReadAll(s.Reader(0)); err != nil || string(got) != "the job's" {
		t.Errorf("it holds %q, %v", got, err)
	}
}
