package criu

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"sync"
)

const (
	envPath     = "MIGRATE_CRIU"
	privatePath = "/usr/local/lib/migrate/criu/criu"
)

// ErrNotFound says that this node has no CRIU that could be started.
var ErrNotFound = errors.New("no CRIU found")

// Client starts CRIU. One may be used from many goroutines.
type Client struct {
	path string
	log  *slog.Logger
	kdat string // directory for the cache of kernel probes, "" for none

	mu        sync.Mutex // guards what follows
	kdatTried bool
	kdatFile  string // the cache; "" while there is none
}

// New makes a client for the CRIU at path (see Find).
//
// cacheDir is where the results of CRIU's probes of the kernel are kept on a
// node whose /run is no tmpfs, where CRIU would otherwise repeat them, 30 to
// 60 ms, at every start. It must exist and be writable by root only; "" keeps
// nothing. With a cache CRIU runs in a copy of the caller's mount namespace, so
// jobs must have a mount namespace of their own.
func New(path, cacheDir string, log *slog.Logger) *Client {
	return &Client{path: path, log: log, kdat: cacheDir}
}

// Path is the executable that is started.
func (c *Client) Path() string { return c.path }

// Find returns the path of the CRIU to use: explicit if given, else what
// $MIGRATE_CRIU names, else the private copy that scripts/setup installs, else
// the one in $PATH. What was named must be there; nothing replaces it. Errors
// wrap ErrNotFound.
func Find(explicit string) (string, error) {
	return find(explicit, os.Getenv(envPath), privatePath)
}

func find(explicit, env, private string) (string, error) {
	for _, named := range []struct{ path, by string }{{explicit, "the configuration"}, {env, "$" + envPath}} {
		if named.path == "" {
			continue
		}
		path, err := exec.LookPath(named.path)
		if err != nil {
			return "", fmt.Errorf("%w: %s, named by %s: %w", ErrNotFound, named.path, named.by, err)
		}
		return path, nil
	}
	path, err := exec.LookPath(private)
	if errors.Is(err, fs.ErrNotExist) {
		path, err = exec.LookPath("criu")
	}
	if err != nil {
		return "", fmt.Errorf("%w at %s or in $PATH (%w); install it with `make setup`, which runs scripts/setup, or name one in $%s",
			ErrNotFound, private, err, envPath)
	}
	return path, nil
}
