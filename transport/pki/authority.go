package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// backdate is how far before its issue a certificate is valid: the allowance for a node whose clock is behind.
const backdate = time.Hour

// ErrExists is returned by Init when the directory already holds an authority.
var ErrExists = errors.New("a cluster CA is already here")

// Init makes the CA of a cluster: dir/ca.key (mode 0600) and dir/ca.crt, valid for
// validity from now. It never replaces an existing one (ErrExists), for every node's
// certificate would be worthless at that moment.
func Init(dir, cluster string, validity time.Duration) error {
	if cluster == "" || len(cluster) > 64 {
		return fmt.Errorf("cluster name of %d characters: it must have 1 to 64", len(cluster))
	}
	key, keyPEM, err := newKey()
	if err != nil {
		return fmt.Errorf("create CA of cluster %s: %w", cluster, err)
	}
	template, err := newTemplate(pkix.Name{CommonName: "migrate CA of " + cluster, Organization: []string{cluster}}, validity)
	if err != nil {
		return fmt.Errorf("create CA of cluster %s: %w", cluster, err)
	}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("create CA of cluster %s: %w", cluster, err)
	}
	return writeAuthority(dir, keyPEM, certPEM(der))
}

// writeAuthority writes the key first: a certificate without its key would look
// like an authority and could not issue anything.
func writeAuthority(dir string, key, cert []byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create CA: %w", err)
	}
	for _, f := range []struct {
		name string
		data []byte
		perm os.FileMode
	}{{CAKeyFile, key, 0o600}, {CACertFile, cert, 0o644}} {
		path := filepath.Join(dir, f.name)
		err := publish(path, f.data, f.perm, false)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("create CA: %w: %s exists; choose another directory, or remove it if no node uses it", ErrExists, path)
		}
		if err != nil {
			return fmt.Errorf("create CA: %w", err)
		}
	}
	return nil
}

// Issue makes a key and a certificate for node, valid for validity from now, signed by
// the CA in dir, and writes out/ca.crt, out/node.crt and out/node.key (mode 0600). An
// earlier certificate of the same node in out is renewed; another node's is refused.
func Issue(dir, node string, validity time.Duration, out string) error {
	if err := issue(dir, node, validity, out); err != nil {
		return fmt.Errorf("issue certificate for node %s: %w", node, err)
	}
	return nil
}

func issue(dir, node string, validity time.Duration, out string) error {
	if err := CheckNodeName(node); err != nil {
		return err
	}
	ca, caPEM, caKey, err := loadAuthority(dir)
	if err != nil {
		return err
	}
	if err := checkOut(out, node); err != nil {
		return err
	}
	template, err := newTemplate(pkix.Name{CommonName: node, Organization: ca.Subject.Organization}, validity)
	if err != nil {
		return err
	}
	if template.NotAfter.After(ca.NotAfter) {
		return fmt.Errorf("the cluster CA itself ends on %s: ask for a shorter validity or make a new CA", ca.NotAfter.Format(time.RFC3339))
	}
	template.DNSNames = []string{node}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	key, keyPEM, err := newKey()
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
	if err != nil {
		return err
	}
	return writeNode(out, caPEM, keyPEM, certPEM(der))
}

func writeNode(out string, ca, key, cert []byte) error {
	return errors.Join(
		publish(filepath.Join(out, CACertFile), ca, 0o644, true),
		publish(filepath.Join(out, NodeKeyFile), key, 0o600, true),
		publish(filepath.Join(out, NodeCertFile), cert, 0o644, true))
}

// checkOut creates out and sees to it that a slip of the pen does not replace another node's key.
func checkOut(out, node string) error {
	if err := os.MkdirAll(out, 0o700); err != nil {
		return err
	}
	path := filepath.Join(out, NodeCertFile)
	cert, _, err := readCert(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w; remove it if it is not needed", err)
	}
	if cert.Subject.CommonName != node {
		return fmt.Errorf("%s belongs to node %s: choose another output directory", path, cert.Subject.CommonName)
	}
	return nil
}

func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// newTemplate leaves the serial number to x509.CreateCertificate, which draws a random one.
func newTemplate(subject pkix.Name, validity time.Duration) (*x509.Certificate, error) {
	if validity <= 0 {
		return nil, fmt.Errorf("validity %s: it must be positive", validity)
	}
	now := time.Now()
	return &x509.Certificate{Subject: subject, NotBefore: now.Add(-backdate), NotAfter: now.Add(validity)}, nil
}

func certPEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
