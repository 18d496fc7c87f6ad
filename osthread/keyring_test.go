package osthread

import (
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
	"golang.org/x/sys/unix"
)

func TestAKeyringIsNewEachTimeAndIsFoundByItsLabel(t *testing.T) {
	testenv.NeedRoot(t) // root's keyrings alone are looked for
	names := map[string]bool{}
	for range 3 {
		err := Throwaway(func() error {
			if err := NewKeyring("thread-test"); err != nil {
				return err
			}
			name, err := unix.KeyctlString(unix.KEYCTL_DESCRIBE, unix.KEY_SPEC_SESSION_KEYRING)
			names[name] = true
			if err != nil || !strings.Contains(name, ";migrate:thread-test:") || !HasKeyring("thread-test") || HasKeyring("thread") {
				t.Errorf("it is %q (%v)", name, err)
			}
			for want := range 2 {
				if n, err := KeyringsWithKeys("thread-test"); n != want || err != nil {
					t.Errorf("%d hold keys (%v), want %d", n, err, want)
				}
				if _, err := unix.AddKey("user", "k", []byte("v"), unix.KEY_SPEC_SESSION_KEYRING); err != nil {
					return err
				}
			}
			_, err = unix.KeyctlInt(unix.KEYCTL_CLEAR, unix.KEY_SPEC_SESSION_KEYRING, 0, 0, 0)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(names) != 3 {
		t.Errorf("they are %v", names)
	}
}

func TestALineOfKeysIsReadStrictly(t *testing.T) {
	for line, want := range map[string]bool{
		"061547a5 I--Q---    11 perm 3f130000     0     0 keyring   migrate:jx:0af3: 1":     true,
		"061547a5 I--Q---    11 perm 3f130000     0     0 keyring   migrate:jx:0af3: empty": false,
		"061547a5 I--Q---     0 perm 3f130000     0     0 keyring   migrate:jx:0af3: 1":     false, // nobody's
		"061547a5 I--Q---    11 perm 3f130000  1000  1000 keyring   migrate:jx:0af3: 1":     false, // a user's
		"061547a5 I--Q---    11 perm 3f130000     0     0 user      migrate:jx:0af3: 1":     false,
		"061547a5 I--Q---    11 perm 3f130000     0     0 keyring   migrate:jxy:0af3: 1":    false,
		"": false,
	} {
		if got := holdsKeys(line, "jx"); got != want {
			t.Errorf("%q: %v", line, got)
		}
	}
}
