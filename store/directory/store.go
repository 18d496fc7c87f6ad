package directory

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/store"
)

// Store keeps each checkpoint in a directory of its own. A name is the directory's absolute path.
type Store struct{}

func check(name string) error {
	if !filepath.IsAbs(name) {
		return fmt.Errorf("%w: the directory must be an absolute path", store.ErrName)
	}
	return nil
}

// Create begins a directory where there is none.
func (Store) Create(name, move string, u osthread.User) (store.Draft, error) {
	if err := check(name); err != nil {
		return nil, err
	}
	d, err := newPartial(name, move, u)
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Remove takes back a directory that an earlier agent has begun or sealed.
func (Store) Remove(ref store.Ref, move string, u osthread.User) error {
	d, err := found(ref, move, u)
	if err != nil {
		return err
	}
	return d.Remove()
}

// found is a directory that an earlier agent has begun.
func found(ref store.Ref, move string, u osthread.User) (*partial, error) {
	d := &partial{name: ref.Name, path: filepath.Clean(ref.Name), owner: u, move: move}
	if err := exactjson.Unmarshal(ref.Form, &d.id); err != nil {
		return nil, fmt.Errorf("which directory %s is: %w", ref, err)
	}
	return d, nil
}

// Open opens a directory, once. From then on no path to it counts.
func (Store) Open(name string, u osthread.User) (store.Checkpoint, error) {
	if err := check(name); err != nil {
		return nil, err
	}
	c := &checkpoint{user: u}
	err := c.as(func() (err error) {
		c.dir, err = openDirectory(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return c, nil
}

// checkpoint is a directory that is open. Its claims are its user's to read, write and remove.
type checkpoint struct {
	user   osthread.User
	dir    *os.File
	sealed *Sealed // once its manifest was read
}

func (c *checkpoint) as(do func() error) error { return osthread.As(c.user, do) }

// Manifest opens all files. From then on no name in the directory counts.
func (c *checkpoint) Manifest(verify store.Verifier) (store.Manifest, error) {
	var err error
	if c.sealed, err = Open(c.dir, c.as, verify); err != nil {
		return store.Manifest{}, err
	}
	return c.sealed.Manifest, nil
}

func (c *checkpoint) Lanes() (*store.Lanes, error) {
	return store.ReadAhead(c.sealed.Manifest.Files, c.sealed.Reader)
}

func (c *checkpoint) Claims() (claims []store.Claim, err error) {
	err = c.as(func() error {
		claims, err = claimsIn(c.dir)
		return err
	})
	return claims, err
}

func (c *checkpoint) Claim(claim store.Claim, after int64) error {
	return c.as(func() error { return placeClaim(c.dir, claim, after) })
}

func (c *checkpoint) Release(epoch int64) error {
	return c.as(func() error { return releaseClaim(c.dir, epoch) })
}

// Close closes what is open.
func (c *checkpoint) Close() error {
	var err error
	if c.sealed != nil {
		err = c.sealed.Close()
	}
	return errors.Join(err, c.dir.Close())
}
