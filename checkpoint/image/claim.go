package image

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
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
	tempSuffix  = ".tmp"  // of one that is being written
)

func isClaim(name string) bool { return strings.HasPrefix(name, claimPrefix) }

func claimPath(dir string, epoch int64) string {
	return filepath.Join(dir, fmt.Sprintf("%s%d.json", claimPrefix, epoch))
}

// Claims returns the claims on a directory, oldest epoch first. One that cannot be
// read is an error: it may be the newest.
func Claims(dir string) ([]Claim, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var claims []Claim
	for _, e := range entries {
		if !isClaim(e.Name()) || strings.HasSuffix(e.Name(), tempSuffix) {
			continue
		}
		if len(claims) == maxClaims {
			return nil, fmt.Errorf("more than %d claims in %s", maxClaims, dir)
		}
		data, err := readBounded(filepath.Join(dir, e.Name()), maxClaim)
		if errors.Is(err, ErrMissing) {
			continue // taken back meanwhile
		}
		if err != nil {
			return nil, err
		}
		var c Claim
		if err := json.Unmarshal(data, &c); err != nil {
			return nil, fmt.Errorf("%s: %w", e.Name(), err)
		}
		claims = append(claims, c)
	}
	slices.SortFunc(claims, func(a, b Claim) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return claims, nil
}

// ErrClaimed says that somebody else is bringing the job back, or has since.
var ErrClaimed = errors.New("somebody else is bringing this job back")

// Stake puts a claim into the directory, if the newest one there is still of the epoch
// after, 0 for none. Of several nodes that try at a time at most one succeeds, with
// whatever epochs; the others get ErrClaimed and leave nothing: each looks at what the
// others have put there after it has put its own.
func Stake(dir string, c Claim, after int64) error {
	if err := put(dir, c); err != nil {
		return err
	}
	claims, err := Claims(dir)
	if err == nil && slices.ContainsFunc(claims, func(other Claim) bool { return other.Epoch > after && other.Epoch != c.Epoch }) {
		err = ErrClaimed
	}
	if err != nil {
		return errors.Join(err, Unstake(dir, c.Epoch))
	}
	return nil
}

// put writes a claim. Of several with one epoch exactly one succeeds.
func put(dir string, c Claim) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, claimPrefix+"*"+tempSuffix)
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
