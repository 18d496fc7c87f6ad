package node

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// alices is a directory of user 12345's that the nodes have copies of, and a file in it
// that a job of hers holds. Beside it lies a directory that is closed to her and not to
// CRIU, in which a file looks the same.
type alices struct {
	c                  *cluster
	home, away, closed string
}

func (a *alices) lie(c *cluster) {
	a.c, a.home, a.away, a.closed = c, filepath.Join(c.dir, "alice"), filepath.Join(c.dir, "copy"), filepath.Join(c.dir, "closed")
	for dir, text := range map[string]string{filepath.Join(a.home, "d"): "mine", filepath.Join(a.away, "d"): "mine", a.closed: "root"} {
		f := filepath.Join(dir, "f")
		c.must(errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(f, []byte(text), 0o600)))
		if dir == a.closed {
			c.must(os.Chmod(dir, 0o700))
			continue
		}
		for _, own := range []string{f, dir, filepath.Dir(dir)} {
			c.must(os.Chown(own, 12345, 12345))
		}
	}
	c.nodes[1].cover = []string{"mount --bind " + a.away + " " + a.home}
}

// hold starts the job.
func (a *alices) hold(n *node) *job { return a.start(n, "open") }

func (a *alices) start(n *node, role string) *job {
	r := n.as("12345", "run", "-d", "--user-ns", "--bind", a.home+":/mnt", "-w", "/tmp", "--", shared.helper, role, "/mnt/d/f").want(a.c.t, 0)
	j := &job{a.c.t, strings.TrimSpace(r.out)}
	j.numbers(n, 10)
	base := int(j.inspect(n).Spec.UIDBase) // as whom CRIU opens files in the job's user namespace
	a.c.must(errors.Join(os.Chown(a.closed, base, base), os.Chown(filepath.Join(a.closed, "f"), base, base)))
	return j
}

// swap has the job's directory lead into the closed one, or no more.
func (a *alices) swap(in string) {
	d := filepath.Join(in, "d")
	a.c.must(errors.Join(os.Rename(d, d+"0"), os.Symlink(a.closed, d)))
}

func (a *alices) swapBack(in string) {
	d := filepath.Join(in, "d")
	a.c.must(errors.Join(os.Remove(d), os.Rename(d+"0", d)))
}

func TestFilesThatTheUserCannotOpenAreRefused(t *testing.T) {
	t.Parallel()
	var files alices
	c := newCluster(t, 2, files.lie)
	a, b := c.two()
	c.run("before a move", func(t *testing.T) {
		j := files.hold(a)
		files.swap(files.away)
		j.refused(a, b, "file-denied", files.home+"/d/f", "12345")
		files.swapBack(files.away)
		j.numbers(a, 20)
		j.remove(c)
	})
	c.run("that closes on the source", func(t *testing.T) {
		j := files.hold(a)
		d := filepath.Join(files.home, "d")
		c.must(errors.Join(os.Chown(d, 0, 0), os.Chmod(d, 0o700)))
		j.refused(a, b, "file-denied", "/mnt/d/f (descriptor")
		c.must(errors.Join(os.Chown(d, 12345, 12345), os.Chmod(filepath.Join(d, "f"), 0), os.Chmod(filepath.Join(files.away, "d", "f"), 0)))
		j.move(a, b) // an owner's
		j.numbers(b, 20)
		j.remove(c)
		c.must(errors.Join(os.Chmod(filepath.Join(d, "f"), 0o600), os.Chmod(filepath.Join(files.away, "d", "f"), 0o600)))
	})
	c.run("in a message", func(t *testing.T) {
		j := files.start(a, "pass")
		a.migrate("move", j.id, b.name).want(t, 4).says(t, "1 descriptors", "SCM_RIGHTS")
		j.numbers(a, 20)
		j.remove(c)
	})
	c.run("during a move and back", func(t *testing.T) {
		j := files.hold(a)
		warm := make(chan struct{}, 8)
		move := spawn(t, 2*limit, func(line string) {
			if strings.Contains(line, `"phase":"warm-up"`) {
				warm <- struct{}{}
			}
		}, shared.migrate, "--socket", a.socket(), "move", "--json", "--bandwidth", "1M", "--force", j.id, b.name)
		select {
		case <-warm:
			files.swap(files.away)
		case <-time.After(limit):
			t.Fatal("the warm-up did not begin")
		}
		e := last(decodeEvents(t, move.wait().want(t, 4).out)).Error
		if e == nil || !strings.Contains(e.Message, files.closed+"/f (descriptor 3 of process 1 (helper)): user 12345 does not get there") || !strings.Contains(e.Where, "running") {
			t.Errorf("the error is %+v", e)
		}
		j.numbers(a, 20)
		files.swapBack(files.away)
		j.move(a, b)
		files.swap(files.home)
		b.migrate("move", j.id, a.name).want(t, 3).says(t, "file-denied")
		files.swapBack(files.home)
		j.move(b, a)
		j.numbers(a, 20)
		j.remove(c)
	})
	c.run("after a checkpoint", func(t *testing.T) {
		j := files.hold(a)
		dir := filepath.Join(c.dir, "saved")
		a.migrate("checkpoint", j.id, dir).want(t, 0)
		files.swap(files.home)
		a.migrate("restore", "-d", dir).want(t, 3).says(t, "file-denied", files.home+"/d/f")
		files.swapBack(files.home)
		a.migrate("restore", "-d", dir).want(t, 0)
		j.numbers(a, 20)
		j.remove(c)
	})
}

func TestFilesThatTheUserMayOpenMoveWithTheJob(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	dir := filepath.Join(c.dir, "alice")
	c.must(errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, 12345, 12345), os.WriteFile(filepath.Join(dir, "in"), nil, 0o644)))
	for name, flags := range map[string][]string{
		"of every kind":               append([]string{"-i", "/mnt/in", "--", shared.oracle, "--count"}, everything...),
		"deleted in a directory":      {"--", shared.oracle, "--count", "--deleted", "--dir", "/mnt"},
		"as output, on another mount": {"-e", "/mnt/err", "--", shared.oracle, "--count"},
	} {
		c.run(name, func(t *testing.T) {
			here, there := c.two()
			r := here.as("12345", append([]string{"run", "-d", "--user-ns", "--bind", dir + ":/mnt", "-w", "/tmp"}, flags...)...).want(t, 0)
			j := &job{t, strings.TrimSpace(r.out)}
			j.ready(here)
			for range 2 {
				j.move(here, there)
				here, there = there, here
				j.ticks(here, 20)
			}
			j.finish(here)
		})
	}
}
