package pki

import (
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func newAuthority(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "ca")
	if err := Init(dir, "test", time.Hour); err != nil {
		t.Fatal(err)
	}
	return dir
}

func issued(t testing.TB, ca, node string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), node)
	if err := Issue(ca, node, time.Minute, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func loaded(t testing.TB, dir string) *Identity {
	t.Helper()
	id, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func wantError(t *testing.T, err error, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want one with %q", words)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

func TestAnIssuedIdentityLoads(t *testing.T) {
	id := loaded(t, issued(t, newAuthority(t), "node-1.cluster"))
	if id.Node != "node-1.cluster" || id.Cluster != "test" {
		t.Errorf("loaded node %q of cluster %q", id.Node, id.Cluster)
	}
	if left := time.Until(id.Expires); left > time.Minute || left < 0 {
		t.Errorf("expires in %s, issued for a minute", left)
	}
}

func TestKeysAreClosedToOthers(t *testing.T) {
	ca := newAuthority(t)
	for _, path := range []string{filepath.Join(ca, "ca.key"), filepath.Join(issued(t, ca, "a"), "node.key")} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
	}
}

func TestInitNeverReplacesAnAuthority(t *testing.T) {
	dir := newAuthority(t)
	before, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	if err := Init(dir, "other", time.Hour); !errors.Is(err, ErrExists) {
		t.Errorf("second Init: %v, want ErrExists", err)
	}
	after, err := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err != nil || string(after) != string(before) {
		t.Errorf("the key changed (%v)", err)
	}
	left, err := filepath.Glob(filepath.Join(dir, ".*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestIssueRenewsTheSameNodeOnly(t *testing.T) {
	ca := newAuthority(t)
	out := issued(t, ca, "a")
	if err := Issue(ca, "a", time.Minute, out); err != nil {
		t.Errorf("renewal: %v", err)
	}
	wantError(t, Issue(ca, "b", time.Minute, out), "belongs to node a", "another output directory")
	if id := loaded(t, out); id.Node != "a" {
		t.Errorf("now holds %q", id.Node)
	}
}

func TestIssueRefusesWhatCannotWork(t *testing.T) {
	ca := newAuthority(t)
	out := t.TempDir()
	wantError(t, Issue(ca, "a", 2*time.Hour, out), "CA itself ends", "shorter")
	wantError(t, Issue(ca, "a", 0, out), "positive")
	wantError(t, Issue(t.TempDir(), "a", time.Minute, out), "ca.crt", "migrate pki init")
	for _, name := range []string{"", "A", "a_b", "-a", "a-", "a..b", "*.a", "10.0.0.1", "::1", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a"} {
		if err := Issue(ca, name, time.Minute, out); err == nil {
			t.Errorf("issued for %q", name)
		}
	}
}

func TestLoadNamesFileAndRemedy(t *testing.T) {
	ca := newAuthority(t)
	for name, c := range map[string]struct {
		harm  func(dir string) error
		words []string
	}{
		"no certificate": {func(d string) error { return os.Remove(filepath.Join(d, "node.crt")) }, []string{"node.crt", "migrate pki issue"}},
		"no CA":          {func(d string) error { return os.Remove(filepath.Join(d, "ca.crt")) }, []string{"ca.crt", "migrate pki issue"}},
		"open key":       {func(d string) error { return os.Chmod(filepath.Join(d, "node.key"), 0o640) }, []string{"node.key", "chmod 600"}},
		"torn":           {func(d string) error { return os.Truncate(filepath.Join(d, "node.crt"), 100) }, []string{"node.crt"}},
		"other key": {func(d string) error {
			return os.Rename(filepath.Join(issued(t, ca, "b"), "node.key"), filepath.Join(d, "node.key"))
		}, []string{"node.key", "issue the pair again"}},
		"other CA": {func(d string) error {
			return os.Rename(filepath.Join(newAuthority(t), "ca.crt"), filepath.Join(d, "ca.crt"))
		}, []string{"node.crt", "not issued by this cluster's CA"}},
		"huge": {func(d string) error { return os.Truncate(filepath.Join(d, "ca.crt"), maxPEM+1) }, []string{"ca.crt"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := issued(t, ca, "a")
			if err := c.harm(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Load(dir)
			wantError(t, err, c.words...)
		})
	}
}

func TestLoadRefusesAnExpiredCertificate(t *testing.T) {
	out := t.TempDir()
	if err := Issue(newAuthority(t), "a", time.Nanosecond, out); err != nil {
		t.Fatal(err)
	}
	_, err := Load(out)
	if !errors.Is(err, ErrExpired) {
		t.Errorf("Load: %v, want ErrExpired", err)
	}
	wantError(t, err, "node.crt", "migrate pki issue")
}

func TestASignatureNamesItsNode(t *testing.T) {
	ca := newAuthority(t)
	a, b := loaded(t, issued(t, ca, "a")), loaded(t, issued(t, ca, "b"))
	sig, cert, err := a.Sign([]byte("manifest"))
	if err != nil {
		t.Fatal(err)
	}
	node, err := b.Verify([]byte("manifest"), sig, cert)
	if err != nil || node != "a" {
		t.Errorf("Verify: %q, %v", node, err)
	}
	if _, err := b.Verify([]byte("manifesT"), sig, cert); !errors.Is(err, ErrSignature) {
		t.Errorf("other data: %v, want ErrSignature", err)
	}
	_, other, err := b.Sign(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Verify([]byte("manifest"), sig, other); !errors.Is(err, ErrSignature) {
		t.Errorf("another node's certificate: %v, want ErrSignature", err)
	}
}

func TestVerifyTrustsNodesOfItsClusterOnly(t *testing.T) {
	ca := newAuthority(t)
	here := loaded(t, issued(t, ca, "a"))
	foreign := loaded(t, issued(t, newAuthority(t), "a"))
	sig, cert, err := foreign.Sign(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = here.Verify(nil, sig, cert)
	wantError(t, err, "not issued by this cluster's CA")

	_, caPEM, key, err := loadAuthority(ca)
	if err != nil {
		t.Fatal(err)
	}
	authority := &Identity{Cert: here.Cert}
	authority.Cert.PrivateKey = key
	sig, _, err = authority.Sign(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = here.Verify(nil, sig, caPEM)
	wantError(t, err, "")
}

func TestVerifyRefusesAnExpiredSigner(t *testing.T) {
	ca := newAuthority(t)
	out := t.TempDir()
	if err := Issue(ca, "old", time.Nanosecond, out); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(filepath.Join(out, "node.crt"), filepath.Join(out, "node.key"))
	if err != nil {
		t.Fatal(err)
	}
	sig, cert, err := (&Identity{Node: "old", Cert: pair}).Sign(nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := loaded(t, issued(t, ca, "a")).Verify(nil, sig, cert); !errors.Is(err, ErrExpired) {
		t.Errorf("Verify: %v, want ErrExpired", err)
	}
}

// FuzzVerify holds that nothing but the node's own signature passes.
func FuzzVerify(f *testing.F) {
	id := loaded(f, issued(f, newAuthority(f), "a"))
	sig, cert, err := id.Sign([]byte("data"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("data"), sig, cert)
	f.Add([]byte("data"), sig, append(cert, cert...))
	f.Add([]byte{}, []byte{}, []byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, data, sig, cert []byte) {
		node, err := id.Verify(data, sig, cert)
		if err == nil && (node != "a" || string(data) != "data") {
			t.Errorf("accepted %q as signed by %q", data, node)
		}
	})
}

// Who can write to a certificate chooses whom the node trusts, and who owns a key knows it.
func TestFilesThatOthersHaveAHandInAreRefused(t *testing.T) {
	dir := t.TempDir()
	if err := Init(filepath.Join(dir, "ca"), "test", time.Hour); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(dir, "a")
	if err := Issue(filepath.Join(dir, "ca"), "a", time.Minute, out); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ca.crt", "node.crt", "node.key"} {
		path := filepath.Join(out, name)
		change := func(how string, do, undo func() error) {
			t.Helper()
			if err := do(); err != nil {
				t.Fatal(err)
			}
			if _, err := Load(out); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("%s that is %s: %v", name, how, err)
			}
			if err := undo(); err != nil {
				t.Fatal(err)
			}
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		mode := func(m os.FileMode) func() error { return func() error { return os.Chmod(path, m) } }
		change("open to a group", mode(info.Mode()|0o020), mode(info.Mode()))
		change("open to all", mode(info.Mode()|0o002), mode(info.Mode()))
		change("no file", func() error { return errors.Join(os.Rename(path, path+"0"), syscall.Mkfifo(path, 0o600)) }, func() error { return os.Rename(path+"0", path) })
		if os.Geteuid() == 0 {
			change("a user's", func() error { return os.Chown(path, 12345, 0) }, func() error { return os.Chown(path, 0, 0) })
		}
	}
	if _, err := Load(out); err != nil {
		t.Error(err)
	}
}
