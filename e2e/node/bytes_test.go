package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Names, arguments and variables are bytes, and need not be UTF-8.
func TestWhatIsNoUTF8ArrivesAsItWas(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	const odd = "gr\xfc\xdfe \xff\xf4\x8f\xbf\xbf"
	dir := filepath.Join(c.dir, "d\xe4ta")
	c.must(os.MkdirAll(dir, 0o755))
	c.must(os.WriteFile(filepath.Join(dir, odd), []byte("text"), 0o644))
	j := a.launch("--bind", dir+":/mnt", "--env", "ODD="+odd, "--", "sh", "-c",
		`exec 3<"/mnt/$1"; echo more >"/tmp/$1"; exec 4<"/tmp/$1"; echo ready; exec sleep 1000`, "sh", odd)
	j.ready(a)
	seen := func(on *node) string {
		return on.migrate("exec", j.id, "--", "sh", "-c",
			`readlink /proc/1/fd/3 /proc/1/fd/4; tr '\\0' '\\n' </proc/1/environ | grep -a ODD=; cat "/mnt/$1" "/tmp/$1"; echo "$1"`, "sh", odd).want(t, 0).out
	}
	was := seen(a)
	if n := strings.Count(was, odd); n != 4 {
		t.Fatalf("the job got %q, with the name %d times", was, n)
	}
	j.move(a, b)
	if is := seen(b); is != was {
		t.Errorf("after a move: %q, not %q", is, was)
	}
	saved := filepath.Join(c.dir, "saved")
	b.migrate("checkpoint", j.id, saved).want(t, 0)
	a.migrate("restore", "-d", saved).want(t, 0)
	if is := seen(a); is != was {
		t.Errorf("after a restore: %q, not %q", is, was)
	}
}
