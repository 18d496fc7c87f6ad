package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxPEM bounds a key or certificate file, and a certificate named by a peer. Ours have about 700 bytes.
const maxPEM = 16 << 10

// readFile reads a file that is root's or ours, and that others have none of these rights to.
func readFile(path string, closed fs.FileMode) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no file", path)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; owner != 0 && int64(owner) != int64(os.Geteuid()) {
		return nil, fmt.Errorf("%s belongs to user %d, who may know it and may change it: issue a new one, in a directory of root's", path, owner)
	}
	if open := info.Mode().Perm() & closed; open != 0 {
		return nil, fmt.Errorf("%s is open to other users (mode %04o): chmod %s %s, and issue a new one if they have used that", path, info.Mode().Perm(), modeFor[closed], path)
	}
	if info.Size() > maxPEM {
		return nil, fmt.Errorf("%s has %d bytes, more than any key or certificate (%d)", path, info.Size(), maxPEM)
	}
	return io.ReadAll(io.LimitReader(f, maxPEM+1))
}

// What others may not do to a certificate and to a key.
const (
	closedCert fs.FileMode = 0o022
	closedKey  fs.FileMode = 0o077
)

var modeFor = map[fs.FileMode]string{closedCert: "go-w", closedKey: "600"}

func readCert(path string) (*x509.Certificate, []byte, error) {
	data, err := readFile(path, closedCert)
	if err != nil {
		return nil, nil, err
	}
	cert, err := parseCert(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, data, nil
}

// parseCert wants exactly one certificate: a second one could only be there to be overlooked.
func parseCert(data []byte) (*x509.Certificate, error) {
	if len(data) > maxPEM {
		return nil, fmt.Errorf("certificate of %d bytes, more than the limit of %d", len(data), maxPEM)
	}
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 {
		return nil, errors.New("not exactly one PEM certificate")
	}
	return x509.ParseCertificate(block.Bytes)
}

func loadAuthority(dir string) (*x509.Certificate, []byte, crypto.Signer, error) {
	cert, certData, err := readCert(filepath.Join(dir, CACertFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil, fmt.Errorf("%w; make the cluster CA first: migrate pki init", err)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	path := filepath.Join(dir, CAKeyFile)
	keyData, err := readFile(path, closedKey)
	if err != nil {
		return nil, nil, nil, err
	}
	block, _ := pem.Decode(keyData)
	if block == nil {
		return nil, nil, nil, fmt.Errorf("%s: not a PEM key", path)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, nil, nil, fmt.Errorf("%s: a %T cannot sign", path, parsed)
	}
	return cert, certData, key, nil
}
