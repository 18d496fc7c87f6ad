package namespaces

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

// image is a root made by its user: dirs, and links with their targets, and the node's /usr.
func image(t *testing.T, script string, dirs []string, links map[string]string) Config {
	t.Helper()
	cfg, _ := configuration(t, script)
	cfg.Root = t.TempDir()
	for _, d := range append([]string{"usr"}, dirs...) {
		makeDir(t, filepath.Join(cfg.Root, d))
	}
	for _, l := range []string{"bin", "lib", "lib64"} {
		makeLink(t, "usr/"+l, filepath.Join(cfg.Root, l))
	}
	for l, to := range links {
		makeLink(t, to, filepath.Join(cfg.Root, l))
	}
	cfg.Mounts = []Mount{{Source: "/usr", Target: "/usr", ReadOnly: true}}
	return cfg
}

func makeDir(t *testing.T, path string) string {
	t.Helper()
	if err := os.MkdirAll(path, 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func makeLink(t *testing.T, to, path string) string {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func makeFile(t *testing.T, path, content string) string {
	t.Helper()
	makeDir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// refuses starts what must not start.
func refuses(t *testing.T, cfg Config, names ...string) {
	t.Helper()
	p, err := Start(testenv.Bounded(t), cfg, StartEnv{})
	if err == nil {
		p.kill()
		t.Fatal("it started")
	}
	for _, n := range names {
		if !strings.Contains(err.Error(), n) {
			t.Errorf("the error does not name %q: %v", n, err)
		}
	}
}

func TestABindTargetThatIsALinkToTheNodesProcLeadsIntoTheJobsRoot(t *testing.T) {
	t.Parallel()
	cfg := image(t, "echo fine", []string{"proc", "dev", "tmp"}, map[string]string{"p": "/proc"})
	theirs, mark := t.TempDir(), filepath.Join(t.TempDir(), "mark")
	makeFile(t, filepath.Join(theirs, "self/exe"), "#!/bin/sh\ntouch "+mark)
	cfg.Mounts = append(cfg.Mounts, Mount{Source: theirs, Target: "/p"})
	p, err := Start(testenv.Bounded(t), cfg, StartEnv{})
	if err != nil {
		t.Error(err)
	} else if ws, err := p.Wait(); err != nil || ws != 0 {
		t.Errorf("it ended with %v, %v", ws, err)
	}
	if _, err := os.Lstat(mark); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the user's file has run as root (%v)", err)
	}
}

func TestNothingIsMadeOrCutInWhatABindBringsIn(t *testing.T) {
	t.Parallel()
	etc, theirs := t.TempDir(), t.TempDir() // etc stands for the node's
	shadow := makeFile(t, filepath.Join(etc, "shadow"), "root:secret")
	makeLink(t, etc, filepath.Join(theirs, "s"))
	file := makeFile(t, filepath.Join(t.TempDir(), "file"), "")
	for _, target := range []string{"/tmp/e/s/shadow", "/tmp/e/s/new", "/tmp/e/new", "/tmp/e/deep/new"} {
		for _, source := range []string{file, t.TempDir()} {
			cfg, _ := configuration(t, "exit 0")
			cfg.Mounts = []Mount{{Source: theirs, Target: "/tmp/e"}, {Source: source, Target: target}}
			refuses(t, cfg, target)
		}
	}
	if got := readFile(t, shadow); got != "root:secret" {
		t.Errorf("the node's file holds %q", got)
	}
	for dir, want := range map[string]int{etc: 1, theirs: 1} {
		if list, err := os.ReadDir(dir); err != nil || len(list) != want {
			t.Errorf("%s holds %v (%v)", dir, list, err)
		}
	}
}

func TestWhatIsThereInABoundDirectoryCanBeBoundOver(t *testing.T) {
	t.Parallel()
	outer, inner := t.TempDir(), makeFile(t, filepath.Join(t.TempDir(), "inner"), "inner")
	file := makeFile(t, filepath.Join(outer, "sub/file"), "outer")
	cfg, _ := configuration(t, "cat /tmp/e/sub/file")
	cfg.Mounts = []Mount{{Source: outer, Target: "/tmp/e"}, {Source: inner, Target: "/tmp/e/sub/file"}}
	if _, out := run(t, cfg, StartEnv{}); out != "inner" {
		t.Errorf("got %q", out)
	}
	if got := readFile(t, file); got != "outer" {
		t.Errorf("the file beneath holds %q", got)
	}
}

const ownTrees = `test -c /dev/null && test -d /proc/self/fd && touch /tmp/x && stat -f -c %T /d/dev /d/proc /d/tmp`

func TestLinksInAnImageLeadIntoTheImage(t *testing.T) {
	t.Parallel()
	cfg := image(t, ownTrees, []string{"d/dev", "d/proc", "d/tmp"}, map[string]string{"dev": "/d/dev", "proc": "/d/proc", "tmp": "../../d/tmp"})
	ws, out := run(t, cfg, StartEnv{})
	if ws != 0 || out != "tmpfs\nproc\ntmpfs\n" {
		t.Errorf("it ended with %v\n%s%s", ws, out, readFile(t, filepath.Join(cfg.IODir, "stderr")))
	}
}

func TestAnImageWhoseTreesAreLinksToTheNodesIsRefused(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"dev", "proc", "tmp", "sys"} {
		dirs := slices.DeleteFunc([]string{"dev", "proc", "tmp", "sys"}, func(d string) bool { return d == name })
		cfg := image(t, "test ! -e /"+name+"/.", dirs, map[string]string{name: t.TempDir()})
		if name == "sys" { // an image need not have it
			if ws, _ := run(t, cfg, StartEnv{}); ws != 0 {
				t.Errorf("without /sys it ended with %v", ws)
			}
			continue
		}
		refuses(t, cfg, "/"+name)
	}
}

func TestABindTargetThroughALinkIsWhereTheJobFindsIt(t *testing.T) {
	t.Parallel()
	source := t.TempDir()
	makeFile(t, filepath.Join(source, "here"), "seen")
	for _, to := range []string{"/export/home", "export/home", "../export/home"} {
		cfg := image(t, "cat /home/u/here", []string{"proc", "dev", "tmp", "export/home/u"}, map[string]string{"home": to})
		cfg.Mounts = append(cfg.Mounts, Mount{Source: source, Target: "/home/u"})
		if _, out := run(t, cfg, StartEnv{}); out != "seen" {
			t.Errorf("by way of %s: got %q", to, out)
		}
	}
}

func TestAReadOnlyBindKeepsWhatElseItsMountForbids(t *testing.T) {
	testenv.NeedRoot(t)
	source := testenv.OpenDir(t)
	if err := unix.Mount("tmpfs", source, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(source, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for _, user := range []bool{false, true} {
		cfg, _ := configuration(t, "grep -E ' (/tmp/b|/mnt) ' /proc/self/mounts | cut -d' ' -f2,4")
		cfg.RootDir, cfg.UID, cfg.GID = testenv.OpenDir(t), 1000, 1000
		if cfg.User = user; user {
			cfg.UIDs, cfg.GIDs = PrivateMaps(1<<30, 1000, 1000, nil)
		}
		cfg.Mounts = []Mount{{Source: source, Target: "/mnt", ReadOnly: true}, {Source: source, Target: "/tmp/b", ReadOnly: true}}
		_, out := run(t, cfg, StartEnv{})
		for _, target := range []string{"/mnt", "/tmp/b"} {
			if !strings.Contains(out, target+" ro,nosuid,nodev,noexec,relatime") {
				t.Errorf("in a user namespace: %v\n%s", user, out)
			}
		}
	}
}

// victim is a directory that user 1000 does not get to, with a file in it.
func victim(t *testing.T) string {
	t.Helper()
	deep := makeDir(t, filepath.Join(testenv.OpenDir(t), "closed/deep"))
	makeFile(t, filepath.Join(deep, "here"), "secret")
	if err := os.Chmod(filepath.Dir(deep), 0o700); err != nil {
		t.Fatal(err)
	}
	return deep
}

func TestASourceIsWhatTheJobsUserReaches(t *testing.T) {
	t.Parallel()
	cfg, _ := configuration(t, "cat /tmp/b/here")
	cfg.UID, cfg.GID = 1000, 1000
	dir := testenv.OpenDir(t)
	mine := makeDir(t, filepath.Join(dir, "mine"))
	makeFile(t, filepath.Join(mine, "here"), "mine")
	other := makeLink(t, victim(t), filepath.Join(dir, "other"))
	for _, target := range []string{"/tmp/b", "/mnt"} {
		for _, source := range []string{other, "/proc/self/cwd", "/proc/1/root"} {
			cfg.Mounts = []Mount{{Source: source, Target: target}}
			refuses(t, cfg, source)
		}
	}
	inImage := cfg
	inImage.Mounts, inImage.Root = nil, other
	refuses(t, inImage, other)

	link := makeLink(t, "mine", filepath.Join(dir, "link"))
	cfg.Mounts = []Mount{{Source: link, Target: "/tmp/b"}}
	if _, out := run(t, cfg, StartEnv{}); out != "mine" {
		t.Errorf("by way of the user's own link: %q", out)
	}
}

func TestASourceThatIsExchangedMeanwhileIsTheOneThatWasReached(t *testing.T) {
	t.Parallel()
	cfg, _ := configuration(t, "cat /tmp/b/here")
	cfg.UID, cfg.GID = 1000, 1000
	dir, other := testenv.OpenDir(t), victim(t)
	source := makeDir(t, filepath.Join(dir, "d"))
	makeFile(t, filepath.Join(source, "here"), "mine")
	cfg.Mounts = []Mount{{Source: source, Target: "/tmp/b"}}
	_, out := run(t, cfg, StartEnv{Network: func(int) error {
		return errors.Join(os.Rename(source, source+"0"), os.Symlink(other, source))
	}})
	if out != "mine" {
		t.Errorf("got %q", out)
	}
}

func TestAMountOfTheNodeIsNotFoundThroughLinks(t *testing.T) {
	testenv.NeedRoot(t)
	dir := t.TempDir()
	link := makeLink(t, victim(t), filepath.Join(dir, "link"))
	if f, err := (Mount{Source: link, Node: true}).OpenDetached(osthread.User{}); !errors.Is(err, unix.ELOOP) {
		t.Errorf("got %v %v", f, err)
	}
	f, err := Mount{Source: dir, Node: true}.OpenDetached(osthread.User{UID: 1000, GID: 1000})
	if err != nil {
		t.Fatalf("what root alone reaches: %v", err)
	}
	_ = f.Close() // nothing was written
}

func TestAMountPointThatIsThereIsLeftAsItIs(t *testing.T) {
	testenv.NeedRoot(t)
	file := makeFile(t, filepath.Join(t.TempDir(), "file"), "content")
	f, err := Mount{Source: file}.OpenDetached(osthread.User{})
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cfg, _ := configuration(t, "exec sleep 60")
	cfg.Mounts = []Mount{{Source: filepath.Dir(file), Target: "/tmp/b"}}
	pid := started(t, cfg, StartEnv{})
	if err := AttachMounts(pid, map[string]*os.File{"/tmp/b/file": f}); err != nil {
		t.Fatal(err)
	}
	if got := readFile(t, file); got != "content" {
		t.Errorf("the file holds %q", got)
	}
}
