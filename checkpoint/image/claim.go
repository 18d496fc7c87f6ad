package image

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Claim says that a job was brought back from a sealed directory, where, and with
// which epoch. It lies in the directory, beside what is sealed, so that on a
// shared file system every node sees it. A claim is no proof of anything: it
// tells whom to ask whether the job lives.
type Claim struct {
	Node  string    `json:"node"`
	Addr  string    `json:"addr"` // host:port of its agent
	Epoch int64     `json:"epoch"`
	At    time.Time `json:"at"`
}

const (
	claimPrefix = "restored-"
	maxClaims   = 4096
	maxClaim    = 4 << 10 // bytes of the file
)

func isClaim(name string) bool { return strings.HasPrefix(name, claimPrefix) }

func claimPath(dir string, epoch int64) string {
	return filepath.Join(dir, fmt.Sprintf("%s%d.json", claimPrefix, epoch))
}

// Claims returns the newest claim on a directory, false if there is none. One that
// cannot be read is an error: it may be the newest.
func Claims(dir string) (newest Claim, found bool, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return Claim{}, false, err
	}
	n := 0
	for _, e := range entries {
		if !isClaim(e.Name()) {
			continue
		}
		if n++; n > maxClaims {
			return Claim{}, false, fmt.Errorf("more than %d claims in %s", maxClaims, dir)
		}
		data, err := readBounded(filepath.Join(dir, e.Name()), maxClaim)
		if err != nil {
			return Claim{}, false, err
		}
		var c Claim
		if err := json.Unmarshal(data, &c); err != nil {
			return Claim{}, false, fmt.Errorf("%s: %w", e.Name(), err)
		}
		if !found || c.Epoch > newest.Epoch {
			newest, found = c, true
		}
	}
	return newest, found, nil
}

// ErrClaimed says that somebody else brought the job back with the same epoch.
var ErrClaimed = errors.New("somebody else is bringing this job back")

// Stake puts a claim into the directory. Of several nodes that try with one epoch
// exactly one succeeds, the others get ErrClaimed.
func Stake(dir string, c Claim) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, claimPrefix+"*.tmp")
	if err != nil {
		return fmt.Errorf("claim the checkpoint: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("claim the checkpoint: %w", err)
	}
	// A link appears whole or not at all, and on NFS too only once.
	if err := os.Link(f.Name(), claimPath(dir, c.Epoch)); errors.Is(err, os.ErrExist) {
		return ErrClaimed
	} else if err != nil {
		return fmt.Errorf("claim the checkpoint: %w", err)
	}
	return nil
}

// Unstake takes a claim back whose restore has failed.
func Unstake(dir string, epoch int64) error {
	err := os.Remove(claimPath(dir, epoch))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
