package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A user's PID 1 that makes namespaces of its own is root in them, and what the agent, as
// root, finds by it is of the user's making.
func TestPreflightRefusesNestedNamespaces(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	n := c.nodes[0]
	dir, secret := filepath.Join(c.dir, "alice"), filepath.Join(c.dir, "root")
	c.must(errors.Join(os.Mkdir(dir, 0o755), os.Chown(dir, 12345, 12345), os.Mkdir(secret, 0o700)))
	c.must(os.WriteFile(filepath.Join(secret, "q"), []byte("NOTIFY_PID:7 of root's"), 0o600))
	for name, arrange := range map[string]string{
		"a FIFO for a queue":        "mount -t tmpfs none /dev/mqueue; mkfifo /dev/mqueue/q",
		"root's files for queues":   "mount -t tmpfs none /dev; ln -s " + secret + " /dev/mqueue",
		"devices for queues":        "mount --rbind /dev /dev/mqueue",
		"another's files in memory": "mount --rbind /dev /tmp",
	} {
		for _, kind := range []string{"", "--user-ns"} {
			t.Run(strings.TrimSpace(name+" "+kind), func(t *testing.T) {
				args := []string{"run", "-d", "-w", "/"}
				if kind != "" {
					args = append(args, kind)
				}
				args = append(args, "--", "unshare", "-Urm", "sh", "-ec", arrange+"; echo arranged; exec sleep 1000")
				j := &job{t, strings.TrimSpace(n.as("12345", args...).want(t, 0).out)}
				eventually(t, limit, func() error {
					if out := j.logs(n); !strings.Contains(out, "arranged\n") {
						return fmt.Errorf("the job says %q", out)
					}
					return nil
				})
				saved := filepath.Join(dir, "saved")
				n.as("12345", "checkpoint", "--leave-running", j.id, saved).want(t, 3).says(t, "nested-namespace", "has left the namespaces that it was started in")
				if left, err := os.ReadDir(dir); len(left) > 0 || err != nil {
					t.Errorf("there is %v in %s (%v)", left, dir, err)
				}
				j.remove(c)
			})
		}
	}
}
