package vm

import "testing"

func TestZZ(t *testing.T) {
	c := newCluster(t, nil)
	j := c.oracle(c.A, root, nil, "--mem", "8", "--check", "8")
	t.Log(c.must(c.A, root, "move", "--json", j.id, "b"))
	for _, n := range c.Nodes() {
		d, _ := n.Get(t.Context(), AgentLog)
		t.Log(string(d))
		t.Log(c.sh(n, `find / -xdev -name '*.log' -path '*migrate*'; find /run/migrate /var/lib/migrate -type f | head -50; cat /proc/self/cgroup; ps axf -o pid,cgroup,args`))
		t.Log(c.sh(n, `for f in $(find /var/lib/migrate /run/migrate -name '*dump*.log' -o -name '*restore*.log'); do echo "== $f"; grep -nE '^\([0-9. ]+\)' $f | awk -F'[()]' '{t=$2+0; if (t-p>0.05) print t-p, $0; p=t}' | cut -c 1-200; tail -1 $f; done`))
	}
	j.finish(c.B)
}
