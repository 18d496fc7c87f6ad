package pki

import (
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// maxPEM bounds a key or certificate file, and a certificate named by a peer. Ours have about 700 bytes.
const maxPEM = 16 << 10

func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxPEM {
		return nil, fmt.Errorf("%s has %d bytes, more than any key or certificate (%d)", path, info.Size(), maxPEM)
	}
	return os.ReadFile(path)
}

func readCert(path string) (*x509.Certificate, []byte, error) {
	data, err := readFile(path)
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

// readKey refuses a key that other users of the machine can read.
func readKey(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if open := info.Mode().Perm() & 0o077; open != 0 {
		return nil, fmt.Errorf("%s is open to other users (mode %04o): chmod 600 %s, and issue a new one if they could have read it", path, info.Mode().Perm(), path)
	}
	return readFile(path)
}

func loadAuthority(dir string) (*x509.Certificate, []byte, crypto.Signer, error) {
	cert, certData, err := readCert(filepath.Join(dir, caCertFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil, fmt.Errorf("%w; make the cluster CA first: migrate pki init", err)
	}
	if err != nil {
		return nil, nil, nil, err
	}
	path := filepath.Join(dir, caKeyFile)
	keyData, err := readKey(path)
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
