package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// container is one move by podman. Nothing of it is in podman's usual places.
type container struct {
	b      *bench
	dir    string // on the tmpfs if there is room, else on a disk
	cgroup string // the parent of all of its cgroups
	cached bool   // the machine's podman has a cache of its own
}

// blobCache is written by every podman of root's; it cannot be told otherwise.
const blobCache = "/var/lib/containers/cache/blob-info-cache-v1.boltdb"

// podman takes a new job out of a container and into one again.
func (b *bench) podman(ctx context.Context, r run) (moved, error) {
	if err := installed("podman", "runc", "tar", "zstd"); err != nil {
		return moved{}, err
	}
	place, err := b.podmanPlace(r.job)
	if err != nil {
		return moved{}, err
	}
	c := &container{b: b, dir: filepath.Join(place, "podman"), cgroup: filepath.Base(b.memory) + "-podman"}
	err = c.prepare(ctx)
	var m moved
	if err == nil {
		m, err = c.move(ctx, r)
	}
	return m, errors.Join(err, c.end(ctx))
}

// podmanPlace finds a directory with room for the images, their archive and the job.
func (b *bench) podmanPlace(l load) (string, error) {
	onTmpfs := enoughRoom(l, 2.75, 1.7, b.memory)
	if onTmpfs == nil {
		return b.memory, nil
	}
	if err := enoughRoom(l, 1.4, 1.7, b.dir); err != nil {
		return "", cannot(fmt.Sprintf("%v; %v", onTmpfs, err))
	}
	b.note("podman's storage for %d MiB is on %s: %v", l.mib, b.dir, onTmpfs)
	return b.dir, nil
}

// runDir is podman's for what does not outlive a boot. It takes no path longer than 50.
func (c *container) runDir() string { return filepath.Join(c.b.memory, "pod") }

func (c *container) path(name string) string { return filepath.Join(c.dir, name) }

// do runs podman with the CRIU that the others use, and returns its output. What of
// podman lies in /run, /var or /dev/shm otherwise is in the directory.
func (c *container) do(ctx context.Context, args ...string) (string, error) {
	line := []string{"env", "PATH=" + c.path("bin") + ":" + os.Getenv("PATH"), "CONTAINERS_CONF=" + c.path("containers.conf"), "TMPDIR=" + c.dir,
		"podman", "--root", c.path("root"), "--runroot", c.runDir(), "--tmpdir", c.path("tmp"), "--storage-driver", "vfs",
		"--cgroup-manager", "cgroupfs", "--events-backend", "none", "--runtime", "runc", "--log-level", "error"}
	return runLine(ctx, nil, append(line, args...)...)
}

const (
	containerName = "oracle"
	imageName     = "localhost/oracle"
)

// prepare makes podman's surroundings, and an image of the oracle alone.
func (c *container) prepare(ctx context.Context) error {
	_, err := os.Stat(blobCache)
	c.cached = err == nil
	for _, d := range []string{"bin", "image"} {
		if err := os.MkdirAll(c.path(d), 0o755); err != nil {
			return err
		}
	}
	program, err := os.ReadFile(c.b.oracle)
	if err != nil {
		return err
	}
	config := fmt.Sprintf("[engine]\nlock_type = \"file\"\nconmon_env_vars = [%q]\n", "PATH="+c.path("bin")+":"+os.Getenv("PATH"))
	err = errors.Join(os.WriteFile(c.path("image/oracle"), program, 0o755),
		os.WriteFile(c.path("containers.conf"), []byte(config), 0o644),
		os.Symlink(c.b.criu, c.path("bin/criu")))
	if err != nil {
		return err
	}
	if _, err := runLine(ctx, nil, "tar", "-c", "-f", c.path("image.tar"), "-C", c.path("image"), "."); err != nil {
		return err
	}
	_, err = c.do(ctx, "import", "--quiet", c.path("image.tar"), imageName)
	return err
}

func (c *container) move(ctx context.Context, r run) (moved, error) {
	if err := c.start(ctx, r.job); err != nil {
		return moved{}, err
	}
	began := time.Now()
	if _, err := c.do(ctx, "container", "checkpoint", "--export", c.path("job.tar.zst"), "--compress", "zstd", containerName); err != nil {
		return moved{}, err
	}
	saved := time.Now()
	if _, err := c.do(ctx, "rm", "--force", containerName); err != nil {
		return moved{}, err
	}
	if _, err := c.do(ctx, "container", "restore", "--import", c.path("job.tar.zst")); err != nil {
		return moved{}, err
	}
	pause(ctx, afterwards)
	out, err := c.do(ctx, "logs", containerName)
	if err != nil {
		return moved{}, err
	}
	down, err := findDowntime(out, began)
	return moved{downtime: down.length, total: down.to.Sub(began), phases: []phase{
		{"checkpoint", saved.Sub(began)}, {"remove and restore", down.to.Sub(saved)},
	}}, err
}

// start starts the job and returns when it has all its memory.
func (c *container) start(ctx context.Context, l load) error {
	args := []string{"run", "--detach", "--name", containerName, "--hostname", "oracle", "--network", "none", "--log-driver", "k8s-file",
		"--cgroup-parent", "/" + c.cgroup,
		// podman's own limits are beyond what a root without all capabilities may set.
		"--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024", imageName, "/oracle"}
	if _, err := c.do(ctx, append(args, l.flags()...)...); err != nil {
		return err
	}
	err := poll(ctx, readyTime, "the job to be ready", func() (bool, error) {
		pause(ctx, settling) // podman takes its time to say so
		out, err := c.do(ctx, "logs", containerName)
		return strings.Contains(out, "ready\n"), err
	})
	l.settle(ctx)
	return err
}

// end takes away the container and all that was stored, also if podman was interrupted.
func (c *container) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	_, removed := c.do(ctx, "rm", "--force", "--time", "0", "--all")
	err := poll(ctx, removeTime, "podman's cgroups to go", func() (bool, error) {
		dirs := c.cgroups()
		for _, d := range dirs {
			killAll(d)
			_ = unix.Rmdir(d) // when it is empty
		}
		return len(dirs) == 0, nil
	})
	if !c.cached {
		_ = os.Remove(blobCache)
		_ = os.Remove(filepath.Dir(blobCache)) // if it is empty
	}
	return errors.Join(removed, err, removeDir(c.runDir()), removeDir(c.dir))
}

// cgroups are the container's directories in all hierarchies, inner ones first.
func (c *container) cgroups() (dirs []string) {
	roots, _ := filepath.Glob("/sys/fs/cgroup/*/" + c.cgroup) // the pattern is sound
	for _, root := range append(roots, "/sys/fs/cgroup/"+c.cgroup) {
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() {
				dirs = append([]string{path}, dirs...)
			}
			return nil // what is gone is gone
		})
	}
	return dirs
}

func killAll(cgroup string) {
	text, _ := os.ReadFile(filepath.Join(cgroup, "cgroup.procs"))
	for _, f := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(f); err == nil && pid > 1 {
			_ = unix.Kill(pid, unix.SIGKILL) // it may just have ended
		}
	}
}
