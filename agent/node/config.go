package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/netpolicy"
	"github.com/migrate-hpc/migrate/safepath"
)

// Config is what an operator configures of an agent.
type Config struct {
	Node     string // "" takes the name in the certificate
	StateDir string // durable
	RunDir   string // volatile
	Socket   string // "" is agent.sock in RunDir
	Listen   string // host:port for peers
	PKIDir   string // holds ca.crt, node.crt and node.key
	Peers    map[string]string
	Networks netpolicy.Policy
	CRIU     string // "" searches
	Version  string
	Log      *slog.Logger
}

// Paths are the roots of the directories that an agent uses.
type Paths struct {
	State, Run, Memory string
}

// Jobs and the paths below are those of records, journals and sockets; m is the id of a move.
func (p Paths) Jobs() string                   { return filepath.Join(p.State, "jobs") }
func (p Paths) Moves() string                  { return filepath.Join(p.State, "moves") }
func (p Paths) Records() string                { return filepath.Join(p.State, "records") }
func (p Paths) Fence() string                  { return filepath.Join(p.State, "epochs.json") }
func (p Paths) criuLogs() string               { return filepath.Join(p.State, "criu-logs") }
func (p Paths) Incoming(m string) string       { return filepath.Join(p.State, "incoming", m) }
func (p Paths) IncomingRecord(m string) string { return filepath.Join(p.Incoming(m), "record.json") }
func (p Paths) JobRun(id job.ID) string        { return filepath.Join(p.Run, "jobs", string(id)) }
func (p Paths) Kdat() string                   { return filepath.Join(p.Memory, "kdat") }

// Move is the directory of a move's images and pages, on a tmpfs.
func (p Paths) Move(m string) string { return filepath.Join(p.Memory, "moves", m) }

// MakePaths makes the directories. Each of them, and what is above it, must be writable by root
// only. Images and pages go to a tmpfs: the run directory if it is one, else a directory of this
// agent in /dev/shm. Its name is no secret; its mode protects it.
func MakePaths(cfg Config) (Paths, error) {
	p := Paths{State: cfg.StateDir, Run: cfg.RunDir, Memory: cfg.RunDir}
	// Mode 0711 hides the list from users. The root of a user namespace, an ordinary user outside,
	// must get through to what belongs to its job.
	for _, d := range []struct {
		path, option string
		mode         fs.FileMode
	}{
		{p.State, "--state", 0o711}, {p.Jobs(), "--state", 0o711}, {filepath.Dir(p.Incoming("x")), "--state", 0o711},
		{p.Moves(), "--state", 0o700}, {p.Records(), "--state", 0o700}, {p.criuLogs(), "--state", 0o700},
		{p.Run, "--run", 0o711}, {filepath.Join(p.Run, "jobs"), "--run", 0o711},
	} {
		if err := ownDir(d.path, d.mode, d.option); err != nil {
			return p, err
		}
	}
	onTmpfs, err := isTmpfs(p.Run)
	if err != nil {
		return p, err
	}
	if !onTmpfs {
		sum := sha256.Sum256([]byte(p.Run))
		p.Memory = filepath.Join(sharedMemory, "migrate-"+hex.EncodeToString(sum[:6]))
		if onTmpfs, err = isTmpfs(sharedMemory); err != nil || !onTmpfs {
			return p, errors.Join(err, fmt.Errorf("neither %s nor %s is a tmpfs: mount one at %s", p.Run, sharedMemory, p.Run))
		}
		if err := ownDir(p.Memory, 0o700, "--run"); err != nil {
			return p, err
		}
	}
	for _, dir := range []string{filepath.Join(p.Memory, "moves"), p.Kdat()} { // the jobs' memory is in there
		if err := ownDir(dir, 0o700, "--run"); err != nil {
			return p, err
		}
	}
	return p, nil
}

const sharedMemory = "/dev/shm"

// ownDir makes a directory of the agent, or takes over the one that is there. option is the flag
// that names it or its parent.
func ownDir(path string, mode fs.FileMode, option string) error {
	return OnlyRootHint(safepath.Dir(path, mode), option)
}

// OnlyRootHint adds, to the error of package safepath about a path that others than root can
// change, what to type. Other errors stay.
func OnlyRootHint(err error, option string) error {
	var unsafe *safepath.Error
	if !errors.As(err, &unsafe) {
		return err
	}
	e := &api.Error{Code: api.CodeFailed, Message: "the agent does not start: " + err.Error(),
		Hint: fmt.Sprintf("`migrate agent %s DIR`, with a DIR that is root's, and all above it", option)}
	if unsafe.Remedy != "" {
		e.Hint = fmt.Sprintf("`%s`, when you have looked at it; or ", unsafe.Remedy) + e.Hint
	}
	return e
}

func isTmpfs(dir string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return false, fmt.Errorf("file system of %s: %w", dir, err)
	}
	return st.Type == unix.TMPFS_MAGIC || st.Type == unix.RAMFS_MAGIC, nil
}

// KernelRelease is the release of the running kernel, as uname(2) has it.
func KernelRelease() (string, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "", err
	}
	return unix.ByteSliceToString(u.Release[:]), nil
}
