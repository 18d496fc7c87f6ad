package criu

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/procfs"
)

const (
	runDir     = "/run"
	kdatPath   = runDir + "/criu.kdat" // where CRIU looks for its cache (criu/kerndat.c)
	kdatPrefix = "criu-kdat-"
	kdatPerm   = 0o600
)

// surroundings are what a worker's thread does around the life of its process.
type surroundings struct {
	before func() error // right before the start
	after  func() error // when the process was reaped
}

// surround decides whether CRIU gets a mount namespace of its own, in which the
// cache of an earlier start is bound to where CRIU looks for it. Without a cache
// CRIU works as well, only later, so nothing that goes wrong here is an error.
func (c *Client) surround(ctx context.Context) surroundings {
	cache, err := c.cache(ctx)
	if err != nil {
		c.log.Warn("cannot keep the results of CRIU's probes", logkey.Err, err)
	}
	if cache == "" {
		return surroundings{}
	}
	return surroundings{before: func() error {
		if err := bindCache(cache); err != nil {
			c.log.Warn("cannot use the results of CRIU's probes", logkey.Err, err)
		}
		return nil
	}}
}

// cache returns the file with the results of the probes and makes it if needed;
// "" if CRIU keeps its own or none is wanted.
func (c *Client) cache(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kdat == "" || c.kdatTried {
		return c.kdatFile, nil
	}
	c.kdatTried = ctx.Err() == nil
	var where unix.Statfs_t
	if err := unix.Statfs(runDir, &where); err != nil {
		return "", fmt.Errorf("look at %s: %w", runDir, err)
	}
	if where.Type == unix.TMPFS_MAGIC {
		return "", nil
	}
	name, err := c.cacheName()
	if err != nil {
		return "", err
	}
	_, err = os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		err = c.makeCache(ctx, name)
	}
	if err != nil {
		return "", err
	}
	c.kdatFile = name
	return name, nil
}

// cacheName is different after every boot and for every copy of CRIU.
func (c *Client) cacheName() (string, error) {
	boot, err := procfs.BootID()
	if err != nil {
		return "", err
	}
	var st unix.Stat_t
	if err := unix.Stat(c.path, &st); err != nil {
		return "", fmt.Errorf("look at %s: %w", c.path, err)
	}
	h := fnv.New64a()
	fmt.Fprintln(h, c.path, st.Dev, st.Ino, st.Mtim.Sec, st.Mtim.Nsec)
	name := fmt.Sprintf("%s%s-%016x", kdatPrefix, boot, h.Sum64())
	return filepath.Join(c.kdat, name), nil
}

// makeCache lets CRIU probe the kernel with a tmpfs at /run, keeps what it
// leaves there, and removes the caches of earlier boots.
func (c *Client) makeCache(ctx context.Context, name string) error {
	var data []byte
	s := surroundings{
		before: func() error {
			if err := ownMounts(); err != nil {
				return err
			}
			return mount("tmpfs", runDir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV)
		},
		after: func() (err error) {
			data, err = os.ReadFile(kdatPath)
			return err
		},
	}
	yes := true
	req := &rpc.CriuReq{Type: rpc.CriuReqType_FEATURE_CHECK.Enum(), Features: &rpc.CriuFeatures{LazyPages: &yes}}
	if _, err := c.serve(ctx, req, Run{}, s); err != nil {
		return fmt.Errorf("probe the kernel: %w", err)
	}
	return errors.Join(removeOthers(name), durable.WriteFile(name, data, kdatPerm))
}

// removeOthers removes the caches of earlier boots.
func removeOthers(name string) error {
	boot := name[:strings.LastIndexByte(name, '-')]
	old, err := filepath.Glob(filepath.Join(filepath.Dir(name), kdatPrefix+"*"))
	for _, path := range old {
		if !strings.HasPrefix(path, boot) {
			err = errors.Join(err, os.Remove(path))
		}
	}
	return err
}

// bindCache puts the cache to where CRIU looks for it, for the calling thread
// and its children. The place must exist in the node's own /run; a CRIU that
// finds the empty file there takes it for stale and removes it.
func bindCache(cache string) error {
	f, err := os.OpenFile(kdatPath, os.O_CREATE|os.O_RDONLY, kdatPerm)
	if err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := ownMounts(); err != nil {
		return err
	}
	return mount(cache, kdatPath, "", unix.MS_BIND)
}

// ownMounts gives the calling thread a private copy of the mount namespace. The
// thread must be locked and must end with its goroutine.
func ownMounts() error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("make mount namespace: %w", err)
	}
	return mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE)
}

func mount(source, target, fstype string, flags uintptr) error {
	if err := unix.Mount(source, target, fstype, flags, ""); err != nil {
		return fmt.Errorf("mount %s: %w", target, err)
	}
	return nil
}
