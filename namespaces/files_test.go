package namespaces

import (
	"os"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestAJobsOwnFilesLieOverThoseOfItsRoot(t *testing.T) {
	const script = "cat /etc/hosts /dev/.hosts; stat -c %U:%a /etc/hosts; test -e /etc/no-such-file || echo left out; ( echo more >> /etc/hosts ) 2>/dev/null && echo written; true"
	before, err := os.ReadFile("/etc/hosts")
	if err != nil {
		testenv.Missing(t, "no /etc/hosts: %v", err)
	}
	for name, uid := range map[string]uint32{"root's": 0, "a user's": 12345} {
		t.Run(name, func(t *testing.T) {
			cfg, dir := configuration(t, script)
			cfg.UID, cfg.GID = uid, uid
			cfg.Files = []File{{"/etc/hosts", []byte("10.1.1.1 mine\n")}, {"/etc/no-such-file", []byte("x")}}
			if err := os.Chmod(dir, 0o777); err != nil {
				t.Fatal(err)
			}
			ws, out := run(t, cfg, StartEnv{})
			want := "10.1.1.1 mine\n10.1.1.1 mine\nroot:644\nleft out\n"
			if uid == 0 {
				want += "written\n"
			}
			if ws.ExitStatus() != 0 || out != want {
				t.Errorf("%v: %s", ws.ExitStatus(), out)
			}
		})
	}
	if after, err := os.ReadFile("/etc/hosts"); err != nil || string(after) != string(before) || strings.Contains(string(after), "mine") {
		t.Errorf("the node's file is %q now (%v)", after, err)
	}
}
