package node

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// alicesHome is a directory of hers, and a job.
func alicesHome(c *cluster, n *node) (home string, j *job) {
	c.t.Helper()
	home = filepath.Join(c.dir, "alice")
	c.must(errors.Join(os.Mkdir(home, 0o755), os.Chown(home, 12345, 12345)))
	r := n.as(alice, "run", "-d", "--user-ns", "-w", "/tmp", "--", shared.oracle, "--count", "--mem", "8").want(c.t, 0)
	j = &job{c.t, strings.TrimSpace(r.out)}
	j.ready(n)
	return home, j
}

// hers makes a directory hers, with all that is in it.
func hers(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, 12345, 12345))
	})
}

// asAlice is a program of hers that goes on until the test ends.
func asAlice(t *testing.T, script string, args ...string) *process {
	t.Helper()
	return spawn(t, 2*limit, nil, "setpriv", append([]string{"--reuid", alice, "--regid", alice, "--clear-groups", "sh", "-c", script, "sh"}, args...)...)
}

// phases runs a command of hers, and calls do once, at the first event of a phase.
func (n *node) phases(phase string, do func(), args ...string) (result, []event) {
	n.c.t.Helper()
	at := make(chan struct{}, 64)
	p := spawn(n.c.t, 2*limit, func(line string) {
		if strings.Contains(line, `"phase":"`+phase+`"`) {
			select {
			case at <- struct{}{}:
			default:
			}
		}
	}, "setpriv", append([]string{"--reuid", alice, "--regid", alice, "--clear-groups", shared.migrate, "--socket", n.socket()}, args...)...)
	select {
	case <-at:
		do()
	case <-p.ended:
		n.c.t.Errorf("there was no phase %s", phase)
	}
	r := p.wait()
	return r, decodeEvents(n.c.t, r.out)
}

// over renames files of $2 over those that a directory $1.partial-… has, for as long as it
// is there and whenever one has another name.
const over = `mkdir "$3"
while :; do
	for d in "$1".partial-*; do
		for lane in lane-0 lane-1 lane-2 lane-3 manifest.json; do
			if [ -e "$d/$lane" ] && ! [ "$d/$lane" -ef "$3/$lane" ]; then
				cp "$2/$lane" "$3/new" 2>/dev/null && mv -f "$3/new" "$3/$lane" && ln "$3/$lane" "$3/new" && mv -f "$3/new" "$d/$lane"
			fi
		done
	done
done 2>/dev/null`

// What a user renames over the files of a checkpoint while that is written is never what
// is restored. It is the best that there is: the true files of an earlier checkpoint.
func TestCheckpointTakesNoFileThatAUserRenamesIntoIt(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	home, j := alicesHome(c, a)
	old, saved := filepath.Join(home, "old"), filepath.Join(home, "saved")
	a.as(alice, "checkpoint", "--leave-running", j.id, old).want(t, 0)
	c.must(hers(old))
	before := j.ticks(a, 200).Last.Counter
	thief := asAlice(t, over, saved, old, filepath.Join(home, "mine"))
	r := a.as(alice, "checkpoint", j.id, saved)
	thief.cancel()
	<-thief.ended
	where := a
	if r.code == 0 { // nothing came in between
		where = b
		b.as(alice, "restore", "-d", saved).want(t, 0)
	} else {
		r.want(t, 4).says(t, "meanwhile", "running")
		if left, err := filepath.Glob(saved + "*"); len(left) > 0 || err != nil {
			t.Errorf("left are %v, %v", left, err)
		}
	}
	if now := j.ticks(where, 20).Last.Counter; now < before {
		t.Errorf("the job has gone back to %d, and had come to %d", now, before)
	}
	j.remove(c)
}

// From the freeze on the directory is closed to its user, who gets it at the end.
func TestCheckpointIsClosedToItsUserWhileItIsWritten(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	home, j := alicesHome(c, a)
	saved := filepath.Join(home, "saved")
	before := j.ticks(a, 20).Last.Counter
	r, _ := a.phases("dump", func() {
		asAlice(t, `echo mine > "$2"; while :; do for d in "$1".partial-*; do mv -f "$2" "$d/lane-0"; cat "$d/lane-0"; done; done 2>/dev/null`, saved, filepath.Join(home, "mine"))
	}, "checkpoint", "--json", j.id, saved)
	r.want(t, 0)
	if _, err := os.Stat(filepath.Join(home, "mine")); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	var names []string
	c.must(filepath.WalkDir(saved, func(path string, _ os.DirEntry, err error) error {
		names = append(names, filepath.Base(path))
		return err
	}))
	if !slices.Contains(names, "manifest.json") || !slices.Contains(names, "manifest.sig") {
		t.Errorf("it holds %v", names)
	}
	command(t, "setpriv", "--reuid", alice, "--regid", alice, "--clear-groups", "cp", "-r", saved, saved+".copy").want(t, 0) // it is hers
	b.as(alice, "restore", "-d", saved).want(t, 0)
	if now := j.ticks(b, 20).Last.Counter; now < before {
		t.Errorf("the job has gone back to %d from %d", now, before)
	}
	j.finish(b)
}

// What is restored was opened before anything was believed of it.
func TestRestoreDoesNotWaitForAPipeInPlaceOfALane(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	home, j := alicesHome(c, a)
	saved := filepath.Join(home, "saved")
	a.as(alice, "checkpoint", j.id, saved).want(t, 0)
	for _, name := range []string{"lane-0", "manifest.json"} { // before the restore
		copied := saved + "." + name
		c.must(errors.Join(os.CopyFS(copied, os.DirFS(saved)), os.Remove(filepath.Join(copied, name)), unix.Mkfifo(filepath.Join(copied, name), 0o666), hers(copied)))
		b.as(alice, "restore", "-d", copied).want(t, 3).says(t, "not to be trusted", name)
	}
	r, _ := b.phases("preflight", func() { // and during it
		command(t, "setpriv", "--reuid", alice, "--regid", alice, "--clear-groups", "sh", "-c", `cd "$1" && for f in lane-*; do rm "$f" && mkfifo "$f"; done`, "sh", saved).want(t, 0)
	}, "restore", "--json", "-d", saved)
	r.want(t, 0)
	j.ticks(b, 20)
	j.finish(b)
}

// An agent that is killed while the directory is root's gives it back when it starts again.
func TestCheckpointCutByACrashLeavesItsUserNoRootFile(t *testing.T) {
	c := newCluster(t, 1, withFaults)
	a := c.nodes[0]
	home, j := alicesHome(c, a)
	for _, point := range []string{"after.source.frozen", "pages.sent", "write.manifest.json", "before.source.committed"} {
		c.run(point, func(t *testing.T) {
			a.plan(point + " 1 kill")
			a.as(alice, "checkpoint", j.id, filepath.Join(home, "saved")).want(t, 5)
			a.amend()
			a.start()
			j.ticks(a, 20)
			eventually(t, limit, a.settled)
			if left, err := filepath.Glob(filepath.Join(home, "*")); len(left) > 0 || err != nil {
				t.Errorf("left are %v, %v", left, err)
			}
		})
	}
	saved := filepath.Join(home, "saved")
	a.plan("after.source.committed 1 kill")
	a.as(alice, "checkpoint", j.id, saved).want(t, 5)
	a.amend()
	a.start()
	eventually(t, limit, a.settled)
	a.as(alice, "restore", "-d", saved).want(t, 0)
	j.ticks(a, 20)
	j.finish(a)
}
