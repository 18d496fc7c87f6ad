package node

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestCheckpointIsRestoredOnAnotherNode(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	for name, flags := range map[string][]string{"without a user namespace": nil, "with a user namespace": {"--user-ns"}} {
		c.run(name, func(t *testing.T) {
			j := a.oracleIn(flags, everything...)
			dir := filepath.Join(c.dir, j.id)
			a.migrate("checkpoint", j.id, dir).want(t, 0)
			rests(t, j, a)
			r := b.migrate("restore", "-d", dir).want(t, 0)
			if got := strings.TrimSpace(r.out); got != j.id {
				t.Errorf("restore prints %q, want the job's id %s", got, j.id)
			}
			j.ticks(b, 20)
			j.move(b, a)
			j.ticks(a, 20)
			j.finish(a)
		})
	}
}

// rests wants a saved job to be neither running nor lost.
func rests(t *testing.T, j *job, n *node) {
	t.Helper()
	v := j.inspect(n)
	if v.State == "running" || v.State == "lost" || v.State == "frozen" {
		t.Errorf("a saved job is %s", v.State)
	}
	if len(n.cgroups()) != 0 {
		t.Errorf("a saved job still has %v", n.cgroups())
	}
}

func TestCheckpointLeavesTheJobRunning(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--mem", "16")
	dir := filepath.Join(c.dir, "saved")
	a.migrate("checkpoint", "--leave-running", j.id, dir).want(t, 0)
	saved := j.judge(a).Last.Counter
	j.ticks(a, 20)
	a.migrate("restore", "-d", dir).want(t, 3).says(t, j.id, "alive")
	again := filepath.Join(c.dir, "again")
	a.migrate("checkpoint", "--leave-running", j.id, again).want(t, 0)
	j.ticks(a, 20)
	a.migrate("rm", "-f", j.id).want(t, 0)

	a.migrate("restore", "-d", dir).want(t, 0)
	if r := j.judge(a); r.Last.Counter > saved+200 {
		t.Errorf("the job goes on from %d, and was saved before %d", r.Last.Counter, saved)
	}
	j.ticks(a, 20)
	a.migrate("rm", "-f", j.id).want(t, 0)
	b.migrate("restore", "-d", again).want(t, 0)
	j.ticks(b, 20)
	j.finish(b)
}

func TestRestoreInTheForegroundFollowsTheJobToItsEnd(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.oracle("--seconds", "2", "--exit", "5")
	dir := filepath.Join(c.dir, "saved")
	a.migrate("checkpoint", j.id, dir).want(t, 0)
	r := b.migrate("restore", dir).want(t, 5)
	if !strings.HasPrefix(r.out, "ready\ntick 0 ") || !strings.HasSuffix(r.out, "bye\n") {
		t.Errorf("the output is not whole: %v", r)
	}
}

func TestRestoreRefusesATamperedImage(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	other := newCluster(t, 1)
	j := a.oracle("--mem", "8")
	dir := filepath.Join(c.dir, "saved")
	a.migrate("checkpoint", j.id, dir).want(t, 0)
	lane := largest(t, dir)
	for name, tamper := range map[string]struct {
		do    func(dir string) error
		words []string
	}{
		"a flipped bit": {func(dir string) error { return change(filepath.Join(dir, lane), flip) }, []string{lane}},
		"cut short":     {func(dir string) error { return change(filepath.Join(dir, lane), half) }, []string{lane}},
		"another version": {func(dir string) error {
			return change(filepath.Join(dir, "manifest.json"), func(d []byte) []byte {
				return bytes.Replace(d, []byte(`"version": 2`), []byte(`"version": 9`), 1)
			})
		}, nil},
		"a manifest with another epoch": {func(dir string) error {
			return change(filepath.Join(dir, "manifest.json"), func(d []byte) []byte {
				return bytes.Replace(d, []byte(`"epoch": 1`), []byte(`"epoch": 7`), 1)
			})
		}, []string{"signature"}},
		"no signature": {func(dir string) error { return os.Remove(filepath.Join(dir, "manifest.sig")) }, []string{"manifest.sig"}},
		"no manifest":  {func(dir string) error { return os.Remove(filepath.Join(dir, "manifest.json")) }, []string{"manifest"}},
		"a lane less":  {func(dir string) error { return os.Remove(filepath.Join(dir, lane)) }, []string{lane}},
		"a file more":  {func(dir string) error { return os.WriteFile(filepath.Join(dir, "lane-9"), nil, 0o600) }, []string{"lane-9"}},
	} {
		c.run(name, func(t *testing.T) {
			copied := filepath.Join(c.dir, strings.ReplaceAll(name, " ", "-"))
			c.must(os.CopyFS(copied, os.DirFS(dir)))
			c.must(tamper.do(copied))
			b.migrate("restore", "-d", copied).want(t, 3).says(t, append(tamper.words, copied, "not to be trusted", "try:")...)
			if jobs := b.jobs(); len(jobs) != 0 {
				t.Errorf("something is on the node now: %+v", jobs)
			}
		})
	}
	c.run("of another cluster", func(t *testing.T) {
		other.nodes[0].migrate("restore", "-d", dir).want(t, 3).says(t, "not to be trusted", "certificate")
	})
	b.migrate("restore", "-d", dir).want(t, 0) // the original is as good as ever
	j.ticks(b, 10)
}

func largest(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("the checkpoint in %s is empty: %v", dir, err)
	}
	size := func(e os.DirEntry) int64 {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	return slices.MaxFunc(entries, func(a, b os.DirEntry) int { return int(size(a) - size(b)) }).Name()
}

func change(path string, do func([]byte) []byte) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	changed := do(bytes.Clone(data))
	if bytes.Equal(changed, data) {
		return os.ErrInvalid
	}
	return os.WriteFile(path, changed, 0o600)
}

func flip(d []byte) []byte {
	d[len(d)/2] ^= 1
	return d
}

func half(d []byte) []byte { return d[:len(d)/2] }
