package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestAJobFindsItsOwnNameBeforeAndAfterAMove(t *testing.T) {
	t.Parallel()
	const node = "10.9.9.9 of-the-node"
	c := newCluster(t, 2, func(c *cluster) {
		file := filepath.Join(c.dir, "hosts")
		c.must(os.WriteFile(file, []byte(node+"\n"), 0o644))
		c.nodes[0].cover = []string{"mount --bind " + file + " /etc/hosts"} // as in a container
	})
	a, b := c.two()
	for name, d := range map[string]struct {
		flags []string
		host  string
		want  string
	}{
		"loopback only":       {[]string{"--hostname", "sim.lab"}, "sim.lab", "127.0.1.1"},
		"by its short name":   {[]string{"--hostname", "sim.lab"}, "sim", "127.0.1.1"},
		"without --hostname":  {nil, "$(hostname)", "127.0.1.1"},
		"on a bridge":         {[]string{"--hostname", "sim", "--net", "br1", "--address", "10.88.0.7/24"}, "sim", "10.88.0.7"},
		"in a user namespace": {[]string{"--hostname", "sim", "--user-ns"}, "sim", "127.0.1.1"},
	} {
		c.run(name, func(t *testing.T) {
			j := a.launch(append(append([]string{"-w", "/"}, d.flags...), "--", "/bin/sh", "-c", "echo ready; while :; do sleep 0.1; done")...)
			j.ready(a)
			for _, n := range c.nodes {
				if n == b {
					j.move(a, b)
				}
				out := n.migrate("exec", j.id, "--", "sh", "-c", "getent hosts "+d.host+" && getent hosts of-the-node && getent hosts 127.0.0.1; cat /etc/hostname").want(t, 0).out
				host := d.host
				switch {
				case strings.HasPrefix(host, "$"):
					host = j.id
				case host == "sim" && name == "by its short name":
					host = "sim.lab"
				}
				if f := strings.Fields(out); f[0] != d.want || !strings.Contains(out, "10.9.9.9") || f[len(f)-1] != host {
					t.Errorf("on %s:\n%s", n.name, out)
				}
			}
		})
	}
	bound := filepath.Join(c.dir, "bound")
	c.must(os.WriteFile(bound, []byte("10.1.1.1 mine\n"), 0o644))
	if out := a.migrate("run", "--bind", bound+":/etc/hosts", "-w", "/", "--", "cat", "/etc/hosts").want(t, 0).out; out != "10.1.1.1 mine\n" {
		t.Errorf("a hosts file of the user's: %q", out)
	}
}
