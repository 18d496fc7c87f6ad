package directory

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/linux"
	"github.com/migrate-hpc/migrate/store"
)

const (
	claimPrefix = "restored-"
	maxClaims   = 4096
	maxClaim    = 4 << 10 // bytes of the file
	claimPerm   = 0o644
	tempSuffix  = ".tmp" // of one that is being written
)

func isClaim(name string) bool { return strings.HasPrefix(name, claimPrefix) }

func claimName(epoch int64) string { return fmt.Sprintf("%s%d.json", claimPrefix, epoch) }

// claimsIn returns the claims on a directory, oldest epoch first. One that cannot be
// read is an error: it may be the newest. The directory is its user's, like the claims:
// this and the functions below ask for nothing but the rights of their thread.
func claimsIn(dir *os.File) ([]store.Claim, error) {
	names, err := namesIn(dir)
	if err != nil {
		return nil, err
	}
	var claims []store.Claim
	for _, name := range names {
		if !isClaim(name) || strings.HasSuffix(name, tempSuffix) {
			continue
		}
		if len(claims) == maxClaims {
			return nil, fmt.Errorf("more than %d claims in %s", maxClaims, dir.Name())
		}
		f, _, err := openBeneath(dir, name)
		if errors.Is(err, os.ErrNotExist) {
			continue // taken back meanwhile
		}
		if err != nil {
			return nil, err
		}
		data, err := image.ReadUpTo(f, name, maxClaim)
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		var c store.Claim
		if err := exactjson.Unmarshal(data, &c); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		claims = append(claims, c)
	}
	slices.SortFunc(claims, func(a, b store.Claim) int { return cmp.Compare(a.Epoch, b.Epoch) })
	return claims, nil
}

// placeClaim puts a claim into the directory, if the newest one there is still of the epoch
// after, 0 for none. Of several nodes that try at a time at most one succeeds, with
// whatever epochs; the others get ErrClaimed and leave nothing: each looks at what the
// others have put there after it has put its own.
func placeClaim(dir *os.File, c store.Claim, after int64) error {
	if err := putClaim(dir, c); err != nil {
		return err
	}
	claims, err := claimsIn(dir)
	if err == nil && slices.ContainsFunc(claims, func(other store.Claim) bool { return other.Epoch > after && other.Epoch != c.Epoch }) {
		err = store.ErrClaimed
	}
	if err != nil {
		return errors.Join(err, releaseClaim(dir, c.Epoch))
	}
	return nil
}

// putClaim writes a claim. Of several with one epoch exactly one succeeds.
func putClaim(dir *os.File, c store.Claim) error {
	data, err := exactjson.Marshal(c)
	if err != nil {
		return err
	}
	temp := claimPrefix + rand.Text() + tempSuffix
	f, err := createBeneath(dir, temp)
	if err != nil {
		return fmt.Errorf("claim the checkpoint: %w", err)
	}
	at := int(dir.Fd())
	defer unix.Unlinkat(at, temp, 0)
	_, err = f.Write(data)
	// The user's restores are to read a claim of root's, too.
	if err := errors.Join(err, f.Chmod(claimPerm), f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("claim the checkpoint: %w", err)
	}
	// A link appears whole or not at all, and on NFS too only once.
	err = linux.Retry(func() error { return unix.Linkat(at, temp, at, claimName(c.Epoch), 0) })
	if errors.Is(err, os.ErrExist) {
		return store.ErrClaimed
	}
	if err != nil {
		return fmt.Errorf("claim the checkpoint: %w", err)
	}
	return nil
}

// releaseClaim takes a claim back whose restore has failed.
func releaseClaim(dir *os.File, epoch int64) error {
	err := linux.Retry(func() error { return unix.Unlinkat(int(dir.Fd()), claimName(epoch), 0) })
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
