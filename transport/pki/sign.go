package pki

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
)

// signaturePrefix keeps signatures over manifests apart from whatever else a node's key signs.
const signaturePrefix = "migrate manifest signature v1\x00"

// ErrSignature is wrapped by Verify when the signature is not the certificate holder's over this data.
var ErrSignature = errors.New("signature does not match")

// Sign signs data (a manifest) with the node's key. sig is an ASN.1 ECDSA signature over
// SHA-256; certPEM is the node's certificate, to be stored next to it.
func (id *Identity) Sign(data []byte) (sig, cert []byte, err error) {
	key, ok := id.Cert.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, fmt.Errorf("sign as node %s: a %T cannot sign", id.Node, id.Cert.PrivateKey)
	}
	digest := sha256.Sum256(prefixed(data))
	sig, err = key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, nil, fmt.Errorf("sign as node %s: %w", id.Node, err)
	}
	return sig, certPEM(id.Cert.Certificate[0]), nil
}

// Verify returns the node that made sig over data. The certificate must chain to this
// cluster's CA and be valid now (else ErrExpired); a wrong signature is ErrSignature.
func (id *Identity) Verify(data, sig, cert []byte) (node string, err error) {
	leaf, err := parseCert(cert)
	if err != nil {
		return "", fmt.Errorf("verify signature: %w", err)
	}
	node, err = checkLeaf(leaf, id.CA)
	if err != nil {
		return "", fmt.Errorf("verify signature: certificate of %q: %w", leaf.Subject.CommonName, err)
	}
	if err := leaf.CheckSignature(x509.ECDSAWithSHA256, prefixed(data), sig); err != nil {
		return "", fmt.Errorf("verify signature of node %s: %w: %w", node, ErrSignature, err)
	}
	return node, nil
}

func prefixed(data []byte) []byte {
	return append([]byte(signaturePrefix), data...)
}
