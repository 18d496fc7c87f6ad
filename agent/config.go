package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/checkpoint/criu"
	"github.com/migrate-hpc/migrate/job"
)

// Config is what an operator says to an agent.
type Config struct {
	Node     string // "" takes the name in the certificate
	StateDir string // durable
	RunDir   string // volatile
	Socket   string // "" is agent.sock in RunDir
	Listen   string // host:port for peers
	PKIDir   string // holds ca.crt, node.crt and node.key
	Peers    map[string]string
	CRIU     string // "" searches
	Version  string
	Log      *slog.Logger
}

// paths are all the places that an agent uses.
type paths struct {
	state, run, memory string
}

func (p paths) jobs() string             { return filepath.Join(p.state, "jobs") }
func (p paths) moves() string            { return filepath.Join(p.state, "moves") }
func (p paths) records() string          { return filepath.Join(p.state, "records") }
func (p paths) fence() string            { return filepath.Join(p.state, "epochs.json") }
func (p paths) incoming(m string) string { return filepath.Join(p.state, "incoming", m) }
func (p paths) jobRun(id job.ID) string  { return filepath.Join(p.run, "jobs", string(id)) }
func (p paths) kdat() string             { return filepath.Join(p.memory, "kdat") }

// move is the directory of a move's images and pages, on a tmpfs.
func (p paths) move(m string) string { return filepath.Join(p.memory, "moves", m) }

// makePaths creates the directories. Images and pages go to a tmpfs: the run
// directory where it is one, else a directory of this agent's in /dev/shm.
func makePaths(cfg Config) (paths, error) {
	p := paths{state: cfg.StateDir, run: cfg.RunDir, memory: cfg.RunDir}
	// Nobody may list them, but the root of a user namespace, who is nobody
	// outside, must get through to what belongs to its job.
	for _, dir := range []string{p.state, p.run, p.jobs(), filepath.Join(p.run, "jobs"), filepath.Join(p.state, "incoming")} {
		if err := errors.Join(os.MkdirAll(dir, 0o711), os.Chmod(dir, 0o711)); err != nil {
			return p, fmt.Errorf("prepare directories: %w", err)
		}
	}
	onTmpfs, err := isTmpfs(p.run)
	if err != nil {
		return p, err
	}
	if !onTmpfs {
		sum := sha256.Sum256([]byte(p.run))
		p.memory = "/dev/shm/migrate-" + hex.EncodeToString(sum[:6])
		if onTmpfs, err = isTmpfs("/dev/shm"); err != nil || !onTmpfs {
			return p, errors.Join(err, fmt.Errorf("neither %s nor /dev/shm is a tmpfs: mount one at %s", p.run, p.run))
		}
	}
	for _, dir := range []string{filepath.Join(p.memory, "moves"), p.kdat()} { // the jobs' memory is in there
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chmod(dir, 0o700)); err != nil {
			return p, fmt.Errorf("prepare directories: %w", err)
		}
	}
	return p, nil
}

func isTmpfs(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("file system of %s: %w", dir, err)
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC, nil
}

func kernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}

// usableCRIU finds a CRIU; whether it suits the kernel is for preflight.
func (a *Agent) usableCRIU(explicit string) error {
	path, err := criu.Find(explicit)
	if err != nil {
		return err
	}
	a.criuPath = path
	return nil
}
