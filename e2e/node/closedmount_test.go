package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const standing = "echo ready; while :; do sleep 0.1; done"

func TestAMountBeneathAClosedDirectoryHoldsNoUserNamespaceBack(t *testing.T) {
	t.Parallel()
	var closed, open string
	c := newCluster(t, 2, func(c *cluster) {
		closed, open = filepath.Join(c.dir, "closed"), filepath.Join(c.dir, "open")
		data := filepath.Join(c.dir, "data")
		for _, dir := range []string{filepath.Join(closed, "in"), filepath.Join(open, "in"), data} {
			c.must(os.MkdirAll(dir, 0o755))
		}
		c.must(os.WriteFile(filepath.Join(data, "there"), nil, 0o644))
		c.must(os.Chmod(closed, 0o700))
		for _, n := range c.nodes {
			for _, dir := range []string{closed, open} {
				n.cover = append(n.cover, "mount --bind "+data+" "+filepath.Join(dir, "in"))
			}
		}
	})
	a, b := c.two()
	for _, uid := range []string{"12345", "0"} {
		c.run("of user "+uid, func(t *testing.T) {
			c.must(os.Chmod(open, 0o755))
			j := &job{t, strings.TrimSpace(a.as(uid, "run", "-d", "-w", "/", "--user-ns", "--", "/bin/sh", "-c", standing).want(t, 0).out)}
			j.ready(a)
			a.as(uid, "exec", j.id, "test", "-e", filepath.Join(open, "in", "there")).want(t, 0)
			a.as(uid, "exec", j.id, "test", "-e", filepath.Join(closed, "in", "there")).want(t, 1)
			j.move(a, b)
			dir := filepath.Join(c.dir, "saved-"+uid)
			c.must(os.Chmod(open, 0o700))
			b.migrate("checkpoint", j.id, dir).want(t, 3).says(t, "mount-closed", filepath.Join(open, "in"))
			c.must(os.Chmod(open, 0o755))
			b.migrate("checkpoint", j.id, dir).want(t, 0)
			a.migrate("restore", "-d", dir).want(t, 0)
			a.as(uid, "exec", j.id, "test", "-e", filepath.Join(open, "in", "there")).want(t, 0)
			a.migrate("rm", "-f", j.id).want(t, 0)
		})
	}
}

// What the restore would be refused for is heard while the job still runs.
func TestACheckpointThatCouldNotBeRestoredIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	a := c.nodes[0]
	work := filepath.Join(c.dir, "work")
	c.must(os.Mkdir(work, 0o755))
	j := a.launch("-w", work, "--", "/bin/sh", "-c", "cd /; "+standing)
	j.ready(a)
	c.must(os.Remove(work))
	dir := filepath.Join(c.dir, "saved")
	for _, flags := range [][]string{nil, {"--leave-running"}} {
		a.migrate(append(append([]string{"checkpoint"}, flags...), j.id, dir)...).want(t, 3).says(t, "work-dir-missing", "could not be restored", "running")
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("it left %s: %v", dir, err)
		}
	}
	c.must(os.Mkdir(work, 0o755))
	a.migrate("checkpoint", j.id, dir).want(t, 0)
	a.migrate("restore", "-d", dir).want(t, 0)
	a.migrate("rm", "-f", j.id).want(t, 0)
}
