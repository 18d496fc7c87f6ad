package fileaccess

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

// claims are about what a job of user 12345, who is in group 77, holds.
var claims = map[string]struct {
	before string   // shell commands of root's, in a directory that everybody reaches
	holds  []string // what the job does as root: a verb of act and a path
	after  string
	denied string // what is told; "" = nothing is denied
}{
	"a file of the user's":                 {before: "echo text >f; chown 12345 f", holds: []string{"both f", "share f"}},
	"one whose mode is 000":                {before: "echo text >f; chown 12345 f; chmod 000 f", holds: []string{"both f", "share f"}},
	"one that was deleted":                 {before: "echo text >f; chown 12345 f", holds: []string{"both f", "delete f"}},
	"one in a directory that is closed":    {before: "mkdir d; echo text >d/f; chown 12345 d/f", holds: []string{"read d/f"}, after: "chmod 700 d", denied: "user 12345 does not get there: permission denied"},
	"one that has lost its name there":     {before: "mkdir d; echo text >d/f; chown 12345 d/f; ln d/f g", holds: []string{"read d/f", "delete d/f"}, after: "chmod 700 d", denied: "does not get there"},
	"one whose name leads to another file": {before: "mkdir d; echo text >d/f; chown 12345 d/f", holds: []string{"read d/f", "mount d", "make d/f"}, denied: "another file"},

	"a file that all may read":              {before: "echo text >f", holds: []string{"read f", "map f"}},
	"one that has lost one of its names":    {before: "echo text >f; ln f g", holds: []string{"read f", "delete f"}},
	"one to write to":                       {before: "echo text >f", holds: []string{"write f"}, denied: "may not write it: permission denied"},
	"one to read and write":                 {before: "echo text >f", holds: []string{"both f"}, denied: "may not read and write it"},
	"one that is mapped and shared":         {before: "echo text >f", holds: []string{"share f"}, denied: "f (a mapping of process"},
	"one behind a link that leads past":     {before: "mkdir -p c d; echo text >c/f; chmod 700 c; rmdir d; ln -s c d", holds: []string{"read d/f"}, denied: "c/f (descriptor"},
	"a file that a group may read":          {before: "echo text >f; chmod 640 f; chgrp 77 f", holds: []string{"read f"}},
	"a file of another's":                   {before: "echo text >f; chmod 600 f", holds: []string{"read f"}, denied: "may not read it: permission denied"},
	"one that is mapped":                    {before: "echo text >f; chmod 600 f", holds: []string{"map f"}, denied: "f (a mapping of process"},
	"one that was deleted since":            {before: "echo text >f; chmod 600 f", holds: []string{"read f", "delete f"}, denied: "f (deleted) (descriptor"},
	"one that may be executed only":         {before: "echo text >f; chmod 711 f", holds: []string{"map f"}, denied: "may not read it"},
	"one that is named, not opened":         {before: "echo text >f; chmod 600 f", holds: []string{"path f"}},
	"a link that is named":                  {before: "ln -s none l", holds: []string{"link l"}},
	"a directory that may be passed, read":  {before: "mkdir d; chmod 711 d", holds: []string{"read d"}, denied: "may not read it"},
	"one to be in":                          {before: "mkdir d; chmod 711 d", holds: []string{"enter d", "path d"}},
	"one to be in, beyond one that is shut": {before: "mkdir -p d/e; chmod 700 d", holds: []string{"enter d/e"}, denied: "d/e (the cwd of process"},
	"a FIFO of the user's":                  {before: "mkfifo p; chown 12345 p", holds: []string{"both p"}},
	"a FIFO of another's":                   {before: "mkfifo p; chmod 600 p", holds: []string{"both p"}, denied: "p (descriptor"},
	"pipes and memory":                      {holds: []string{"nameless"}},
	"files in a /tmp of the job's own":      {holds: []string{"mount /tmp", "make /tmp/f", "both /tmp/f", "map /tmp/f"}},
}

func TestAJobHoldsWhatItsUserCouldOpen(t *testing.T) {
	testenv.NeedRoot(t)
	for name, c := range claims {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := openDir(t)
			shell(t, dir, c.before)
			for i, h := range c.holds {
				verb, path, _ := strings.Cut(h, " ")
				if !filepath.IsAbs(path) {
					path = filepath.Join(dir, path)
				}
				c.holds[i] = verb + " " + path
			}
			j := holder(t, program(t, dir), nil, c.holds...)
			shell(t, dir, c.after)
			denied, err := Check(j)
			switch {
			case err != nil:
				t.Fatal(err)
			case c.denied == "" && len(denied) > 0:
				t.Errorf("denied: %v", denied)
			case c.denied != "" && (len(denied) != 1 || !strings.Contains(denied[0].Error(), c.denied)):
				t.Errorf("denied: %v; want one: %q", denied, c.denied)
			}
			j.User = osthread.User{}
			if denied, err := Check(j); err != nil || len(denied) > 0 {
				t.Errorf("a job of root's: %v, %v", denied, err)
			}
		})
	}
}

func TestAProgramNeedsTheRightToExecuteItOnly(t *testing.T) {
	testenv.NeedRoot(t)
	dir := openDir(t)
	path := program(t, dir)
	shell(t, dir, "chmod 711 program")
	j := holder(t, path, &syscall.Credential{Uid: alice.UID, Gid: alice.GID})
	if denied, err := Check(j); err != nil || len(denied) > 0 {
		t.Errorf("%v, %v", denied, err)
	}
	shell(t, dir, "chmod 700 program")
	denied, err := Check(j)
	if err != nil || len(denied) != 1 || !strings.Contains(denied[0].Error(), "may not execute it") {
		t.Errorf("%v, %v", denied, err)
	}
}

func TestAMountOnTopOfOneOfTheJobsOwnIsNotTheJobsOwn(t *testing.T) {
	testenv.NeedRoot(t)
	for name, c := range map[string]struct{ holds, binds []string }{
		"mounted":  {holds: []string{"mount /tmp", "mount /tmp"}},
		"declared": {holds: []string{"mount /tmp"}, binds: []string{"/tmp/"}},
	} {
		t.Run(name, func(t *testing.T) {
			j := holder(t, program(t, openDir(t)), nil, append(c.holds, "make /tmp/f", "both /tmp/f")...)
			j.Binds = c.binds
			denied, err := Check(j)
			if err != nil || len(denied) != 1 || !errors.Is(denied[0], fs.ErrPermission) {
				t.Errorf("%v, %v", denied, err)
			}
		})
	}
}

func TestFilesOfWhoeverRestoresTheJobArePassedOverOnNoMountOfTheJobsOnly(t *testing.T) {
	testenv.NeedRoot(t)
	for name, c := range map[string]struct {
		holds        []string
		mine, denied int
	}{
		"on a mount of the job's": {holds: []string{"read /srv/f"}, mine: 1, denied: 1},
		"on no mount of it":       {holds: []string{"read /srv/f", "unmount /srv"}, mine: 0, denied: 1},
	} {
		t.Run(name, func(t *testing.T) {
			j := holder(t, program(t, openDir(t)), nil, append([]string{"mount /srv", "make /srv/f"}, c.holds...)...)
			if denied, err := Check(j); err != nil || len(denied) != c.denied {
				t.Errorf("%v, %v", denied, err)
			}
			j.Mine = func(uint64, uint64) bool { return true }
			if denied, err := Check(j); err != nil || len(denied) != c.mine {
				t.Errorf("all of whoever asks: %v, %v", denied, err)
			}
		})
	}
}

func TestAnAccessIsAskedForAsTheThreadsUser(t *testing.T) {
	testenv.NeedRoot(t)
	dir := openDir(t)
	shell(t, dir, "echo text >f; chmod 600 f; echo text >g; chmod 640 g; chgrp 77 g")
	err := osthread.As(alice, func() error {
		for name, want := range map[string]error{"f": unix.EACCES, "g": nil} {
			fd, err := unix.Open(filepath.Join(dir, name), unix.O_PATH, 0)
			if err != nil {
				return err
			}
			if got := access(fd, unix.R_OK); got != want {
				t.Errorf("%s: %v, want %v", name, got, want)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// openDir is a directory that everybody reaches, outside of /tmp.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "migrate-rights-")
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	must(t, os.Chmod(dir, 0o755))
	return dir
}

// program copies this one to where everybody can execute it.
func program(t *testing.T, dir string) string {
	t.Helper()
	shell(t, dir, "cp "+os.Args[0]+" program")
	return filepath.Join(dir, "program")
}

func shell(t *testing.T, dir, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", script, err, out)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
