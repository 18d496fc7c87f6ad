package namespaces

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

// keyRole makes the test binary a program in a job. It looks at its session keyring and puts a key
// into it.
const keyRole = "namespaces-test-key"

func playKey() error {
	told, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		return err
	}
	id, err := unix.KeyctlSearch(unix.KEY_SPEC_SESSION_KEYRING, "user", "left", 0)
	fmt.Println("keyring", told, "finds", id > 0, err)
	_, err = unix.AddKey("user", "left", []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	// A job that could change owner or rights of its keyring could share it.
	for _, call := range []int{unix.KEYCTL_CHOWN, unix.KEYCTL_SETPERM} {
		if _, e := unix.KeyctlInt(call, unix.KEY_SPEC_SESSION_KEYRING, 4242, 4242, 0); e == nil && os.Getuid() != 0 {
			err = errors.Join(err, fmt.Errorf("call %d was allowed", call))
		}
	}
	return err
}

func TestEachJobAndEachVisitorHasASessionKeyringOfItsOwn(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	look := func(out string) {
		t.Helper()
		name, _, _ := strings.Cut(strings.TrimPrefix(out, "keyring "), " ")
		if !strings.Contains(out, ";migrate:held:") || !strings.Contains(out, "finds false") || seen[name] {
			t.Errorf("seen %v, now %q", seen, out)
		}
		seen[name] = true
	}
	for _, edit := range []func(*Config){ownedBy(4242), ownedBy(4243), nil, func(c *Config) { ownedBy(4242)(c); withUsers(c) }} {
		cfg, dir := configuration(t, "/tmp/self "+keyRole+"; touch "+IOMount+"/done; exec sleep 1000")
		cfg.Keyring, cfg.RootDir = "held", testenv.OpenDir(t)
		cfg.Mounts = []Mount{{Source: self, Target: "/tmp/self", Node: true}}
		if edit != nil {
			edit(&cfg)
		}
		c := newCgroup(t)
		pid := started(t, cfg, StartEnv{Cgroup: c})
		eventually(t, "the job has a key", func() bool { return exists(dir, "done") || readFile(t, filepath.Join(dir, "stderr")) != "" })
		if said := readFile(t, filepath.Join(dir, "stderr")); said != "" {
			t.Error(said)
		}
		look(readFile(t, filepath.Join(dir, "stdout")))
		var out lockedWriter
		v := ExecSpec{Init: pid, Args: []string{"/tmp/self", keyRole}, Env: cfg.Env, WorkDir: "/", UID: cfg.UID, GID: cfg.GID, UserNS: cfg.User, Cgroup: c.Dirs, Keyring: "held", Stdout: &out, Stderr: &out}
		if code, err := Exec(testenv.Bounded(t), v); code != 0 || err != nil {
			t.Fatalf("%d %v %s", code, err, out.text)
		}
		look(out.text)
	}
	if n, err := osthread.KeyringsWithKeys("held"); err != nil || n < 4 {
		t.Errorf("%d keyrings hold something (%v)", n, err)
	}
}

func TestWhatIsClosedToAGroupOfTheJobsUserStaysClosed(t *testing.T) {
	t.Parallel()
	const group, far = 7777, 1200000001
	for _, closedTo := range []int{group, far} {
		secret := makeFile(t, filepath.Join(testenv.OpenDir(t), "secret"), "secret")
		if err := errors.Join(os.Chown(secret, 0, closedTo), os.Chmod(secret, 0o604)); err != nil {
			t.Fatal(err)
		}
		cfg, dir := configuration(t, `
			for with in "" "setpriv --clear-groups" "setpriv --groups 4242" "setpriv --regid 5 --clear-groups" "unshare -U" "unshare -Ur" "unshare -Ur setpriv --clear-groups"; do
				$with cat /tmp/d/secret
			done
			grep Groups /proc/self/status; echo over; exec sleep 1000`)
		cfg.RootDir, cfg.Groups = testenv.OpenDir(t), []uint32{group, far}
		cfg.Mounts = []Mount{{Source: filepath.Dir(secret), Target: "/tmp/d", Node: true}}
		ownedBy(4242)(&cfg)
		cfg.User = true
		cfg.UIDs, cfg.GIDs = PrivateMaps(1<<30, cfg.UID, cfg.GID, cfg.Groups)
		c := newCgroup(t)
		pid := started(t, cfg, StartEnv{Cgroup: c})
		eventually(t, "the job has tried", func() bool { return strings.Contains(readFile(t, filepath.Join(dir, "stdout")), "over") })
		if out := readFile(t, filepath.Join(dir, "stdout")); strings.Contains(out, "secret") || !strings.Contains(out, "7777 1200000001") {
			t.Errorf("closed to %d: %s", closedTo, out)
		}
		var out lockedWriter
		v := ExecSpec{Init: pid, Args: []string{"cat", "/tmp/d/secret"}, Env: cfg.Env, WorkDir: "/", UID: cfg.UID, GID: cfg.GID, Groups: cfg.Groups, UserNS: true, Cgroup: c.Dirs, Stdout: &out}
		if code, err := Exec(testenv.Bounded(t), v); code != 1 || err != nil || out.text != "" {
			t.Errorf("closed to %d: %d %v %s", closedTo, code, err, out.text)
		}
	}
}
