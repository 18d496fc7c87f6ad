package node

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/migrate-hpc/migrate/e2e/oracle"
)

// The frozen copy of a job that has been committed to another node must not run again,
// whatever happens to the journal and whatever a user types.
func TestJournalDamageLetsNoCopyRunUntilItIsForgotten(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2, withFaults)
	a, b := c.two()
	old := a.oracle("--mem", "8")
	old.move(a, b)
	old.move(b, a) // it has been moved before, and is here
	j := a.oracle("--mem", "8")
	for _, f := range glob(t, filepath.Join(a.state(), "moves", "*.journal")) {
		c.must(os.Remove(f)) // the helper wants one
	}
	a.kill()
	a.start()
	move := j.committed(a, b, b.kill)
	file := filepath.Join(a.state(), "moves", move+".journal")
	a.kill()
	whole, err := os.ReadFile(file)
	c.must(err)
	first := bytes.IndexByte(whole, '\n')
	flipped := func(at int) []byte {
		d := bytes.Clone(whole)
		d[at] ^= 1
		return d
	}
	dir := filepath.Join(a.dir, "saved")
	for name, data := range map[string][]byte{
		"line 1": flipped(first / 2), "the job in line 1": flipped(bytes.Index(whole, []byte(j.id)) + 2), "between lines": flipped(first),
		"line 2": flipped(first + 60), "the end": flipped(len(whole) - 1), "empty": nil, "garbage": []byte("garbage"), "cut in line 1": whole[:first/2],
	} {
		c.must(os.WriteFile(file, data, 0o600))
		a.start()
		if a.journal(move) == "committed" && name != "line 1" && name != "the job in line 1" {
			a.kill() // the last record is whole: the agent goes on with the move
			continue
		}
		for _, args := range [][]string{{"checkpoint", "--leave-running", j.id, dir}, {"checkpoint", j.id, dir}, {"move", "--force", j.id, b.name}, {"kill", "-s", "KILL", j.id}} {
			a.migrate(args...).want(t, 3).says(t, move, "is damaged", "--forget")
		}
		a.migrate("rm", "-f", j.id).want(t, 3).says(t, move)
		a.migrate("exec", j.id, "true").want(t, 1).says(t, "is frozen for a move")
		a.migrate("moves").want(t, 0).lists(t, move, "damaged", "migrate resolve "+move+" --forget")
		if v := j.inspect(a); v.State != "frozen" {
			t.Errorf("%s: the job is %s", name, v.State)
		}
		if strings.HasPrefix(name, "line") || strings.HasPrefix(name, "the job") {
			old.ticks(a, 5) // the file names its job, and no other is held up
		} else {
			a.migrate("move", "--force", old.id, b.name).want(t, 3).says(t, move, "is damaged")
			old.ticks(a, 5)
		}
		a.kill()
	}
	c.must(os.WriteFile(file, flipped(first/2), 0o600))
	a.start()
	b.start() // it asks, and gets no answer
	a.migrate("resolve", move, "--take", "--yes").want(t, 3).says(t, move, "--forget")
	a.as("12345", "resolve", move, "--forget", "--yes").want(t, 1).says(t, "only root")
	a.migrate("resolve", move, "--forget").want(t, 130).says(t, "nothing was done", j.id)
	r := a.migrate("resolve", move, "--forget", "--yes").want(t, 0)
	if kept := glob(t, file+".aside-*"); len(kept) != 1 || !strings.Contains(r.out, kept[0]) {
		t.Errorf("set aside as %v: %v", kept, r)
	}
	a.migrate("checkpoint", "--leave-running", j.id, dir).want(t, 3).says(t, "suspended")
	b.migrate("resolve", move, "--take", "--yes").want(t, 0)
	a.migrate("rm", "-f", j.id).want(t, 0)
	j.ticks(b, 20)
	old.move(a, b)
	old.finish(b)
	j.finish(b)
	b.migrate("rm", "-f", j.id).want(t, 0)
	eventually(t, limit, func() error {
		if open := b.moves(); len(open) > 0 {
			return fmt.Errorf("unfinished: %+v", open)
		}
		return nil
	})
	a.kill()
	a.start() // what the move has left goes now
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestPsShowsADamagedRecordAndRmEndsTheJob(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	for name, spoil := range map[string]func(file string) error{
		"a flipped bit": func(file string) error { return change(file, flip) },
		"empty":         func(file string) error { return os.Truncate(file, 0) },
		"gone":          os.Remove,
	} {
		c.run(name, func(t *testing.T) {
			j := a.oracleIn([]string{"--name", "sim"}, "--mem", "8")
			t.Cleanup(func() { a.migrate("rm", "-f", j.id) }) // if it failed
			v := j.inspect(a)
			c.must(spoil(filepath.Join(a.state(), "jobs", j.id, "record.json")))
			a.migrate("ps").want(t, 1).lists(t, j.id, "damaged").says(t, j.id, "record.json")
			if r := a.migrate("ps", "--json").want(t, 1); !strings.Contains(r.out, `"damaged"`) {
				t.Errorf("%v", r)
			}
			if now := j.inspect(a); now.State != "damaged" || now.Init != v.Init || now.CgroupDir != v.CgroupDir {
				t.Errorf("it is seen as %+v", now)
			}
			for _, args := range [][]string{{"move", j.id, b.name}, {"checkpoint", "--leave-running", j.id, filepath.Join(a.dir, "saved")}, {"exec", j.id, "true"}, {"logs", j.id}, {"wait", j.id}, {"rm", j.id}} {
				a.migrate(args...).want(t, 1).says(t, j.id, "damaged", "try:")
			}
			a.migrate("move", "sim", b.name).want(t, 1).says(t, j.id, "damaged")
			a.as("12345", "ps", "-a").want(t, 0)
			a.as("12345", "kill", j.id).want(t, 1).says(t, "not your job")
			a.kill() // the next agent does not forget it, either
			a.start()
			a.migrate("kill", "-s", "USR1", j.id).want(t, 0)
			eventually(t, limit, func() error {
				r, err := oracle.Judge(readFile(filepath.Join(a.state(), "jobs", j.id, "io", "stdout")))
				if err == nil && len(r.States) == 0 {
					err = errors.New("no answer to SIGUSR1")
				}
				return err
			})
			a.migrate("rm", "-f", j.id).want(t, 0)
			if left := a.copyOf(j); left != "" {
				t.Errorf("left: %s", left)
			}
			a.migrate("ps").want(t, 0)
		})
	}
}

func TestPsShowsAJobAstrayWhoseRunDirectoryIsLost(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	dir := filepath.Join(a.dir, "earlier")
	for _, shimLives := range []bool{true, false} {
		c.run(fmt.Sprintf("shim lives: %v", shimLives), func(t *testing.T) {
			j := a.oracle("--mem", "8")
			a.migrate("checkpoint", "--leave-running", j.id, dir).want(t, 0)
			t.Cleanup(func() { c.must(os.RemoveAll(dir)) })
			shim := a.shimOf(j.id)
			c.must(os.RemoveAll(filepath.Join(a.run(), "jobs", j.id)))
			if !shimLives {
				c.must(syscall.Kill(shim, syscall.SIGKILL))
			}
			a.migrate("ps").want(t, 0).lists(t, j.id, "astray")
			for _, args := range [][]string{{"kill", j.id}, {"rm", j.id}, {"move", j.id, b.name}, {"exec", j.id, "true"}, {"checkpoint", j.id, filepath.Join(a.dir, "x")}} {
				a.migrate(args...).want(t, 1).says(t, "astray", "kill -s KILL")
			}
			a.migrate("restore", "-d", dir).want(t, 3).says(t, "still alive")
			waiting := a.spawn("wait", j.id)
			j.ticks(a, 20)
			select {
			case <-waiting.ended:
				t.Errorf("wait has ended while the job runs: %v", waiting.wait())
			default:
			}
			a.migrate("kill", "-s", "KILL", j.id).want(t, 0)
			if shimLives { // it writes down the end
				waiting.wait().want(t, 137)
			} else {
				waiting.wait().want(t, 1).says(t, "lost")
			}
			if !shimLives {
				a.migrate("rm", j.id).want(t, 0)
			}
			a.migrate("restore", "-d", dir).want(t, 0)
			j.ticks(a, 20)
			a.migrate("rm", "-f", j.id).want(t, 0)
		})
	}
}
