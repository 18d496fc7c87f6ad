package osthread

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// keyringPrefix begins the names of our session keyrings in /proc/keys.
const keyringPrefix = "migrate:"

// NewKeyring gives this thread, and what it starts from now on, a new and empty session
// keyring, root's, that the kernel lists as migrate:LABEL:NUMBER. The number is not to be
// guessed, for joining by name finds a keyring that somebody else has made ready.
func NewKeyring(label string) error {
	var random [8]byte
	rand.Read(random[:]) // never fails since Go 1.24
	name := keyringName(label) + hex.EncodeToString(random[:])
	id, err := unix.KeyctlJoinSessionKeyring(name)
	if errors.Is(err, unix.ENOSYS) { // a kernel without keys
		return nil
	}
	if err != nil {
		return fmt.Errorf("make a session keyring: %w", err)
	}
	told, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, id)
	if err != nil {
		return fmt.Errorf("look at the new session keyring: %w", err)
	}
	if !strings.HasPrefix(told, fmt.Sprintf("keyring;%d;", os.Geteuid())) || !strings.HasSuffix(told, ";"+name) {
		return fmt.Errorf("the new session keyring is another's: %q", told)
	}
	return nil
}

func keyringName(label string) string { return keyringPrefix + label + ":" }

// HasKeyring tells whether the session keyring of this thread was made by NewKeyring with
// this label, as far as there can be one.
func HasKeyring(label string) bool {
	told, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, unix.KEY_SPEC_SESSION_KEYRING)
	own := fmt.Sprintf("keyring;%d;", os.Geteuid())
	return errors.Is(err, unix.ENOSYS) || err == nil && strings.HasPrefix(told, own) && strings.Contains(told, ";"+keyringName(label))
}

// KeyringsWithKeys counts the session keyrings of this label, and root's, that hold
// something. Root alone is told of them.
func KeyringsWithKeys(label string) (n int, err error) {
	f, err := os.Open("/proc/keys")
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if holdsKeys(lines.Text(), label) {
			n++
		}
	}
	return n, lines.Err()
}

// holdsKeys reads a line of proc_keys(5): id, flags, usage, expiry, permissions, uid, gid,
// type and name, and for a keyring how much it holds. One that nobody uses is about to go.
func holdsKeys(line, label string) bool {
	f := strings.Fields(line)
	return len(f) > 9 && f[2] != "0" && f[5] == "0" && f[7] == "keyring" && strings.HasPrefix(f[8], keyringName(label)) && f[9] != "empty"
}
