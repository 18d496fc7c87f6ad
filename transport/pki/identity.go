package pki

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"
)

// ErrExpired is wrapped by Load when the node's certificate is not valid at this time.
var ErrExpired = errors.New("certificate is not valid now")

// Identity is what a node proves itself with, and what it checks others by.
// It is read only and may be shared.
type Identity struct {
	Node    string          // the name in the certificate
	Cluster string          // the name that the CA was made with
	Cert    tls.Certificate // certificate and private key; Leaf is set
	CA      *x509.CertPool  // the cluster's CA, nothing else
	Expires time.Time       // when Cert ends
}

// Load reads ca.crt, node.crt and node.key from dir and checks all that a peer would
// refuse later: that they belong together, that the name is a node's, that today is
// within the validity (ErrExpired). Every error names the file and the remedy.
func Load(dir string) (*Identity, error) {
	id, err := load(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("load identity: %w; run `migrate pki issue` where the cluster CA is and copy its output to %s", err, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("load identity: %w", err)
	}
	return id, nil
}

func load(dir string) (*Identity, error) {
	ca, _, err := readCert(filepath.Join(dir, CACertFile))
	if err != nil {
		return nil, err
	}
	certPath, keyPath := filepath.Join(dir, NodeCertFile), filepath.Join(dir, NodeKeyFile)
	leaf, leafPEM, err := readCert(certPath)
	if err != nil {
		return nil, err
	}
	keyPEM, err := readFile(keyPath, closedKey)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(leafPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w; issue the pair again", certPath, keyPath, err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	node, err := checkLeaf(leaf, roots)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", certPath, err)
	}
	pair.Leaf = leaf
	return &Identity{Node: node, Cluster: clusterOf(ca), Cert: pair, CA: roots, Expires: leaf.NotAfter}, nil
}

func clusterOf(ca *x509.Certificate) string {
	if len(ca.Subject.Organization) == 0 {
		return ""
	}
	return ca.Subject.Organization[0]
}

// checkLeaf establishes that leaf is a node's certificate, signed by the cluster and valid now.
func checkLeaf(leaf *x509.Certificate, roots *x509.CertPool) (string, error) {
	if now := time.Now(); now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return "", fmt.Errorf("%w: it holds from %s to %s; check the clock or renew it with `migrate pki issue`",
			ErrExpired, leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return "", fmt.Errorf("not issued by this cluster's CA: %w", err)
	}
	return NodeName(leaf)
}

// ServerConfig is for the side that was dialled: TLS 1.3, the client must show a node
// certificate of the cluster. NextProtos is left to the caller. There are no session
// tickets, so every connection proves its name anew.
func (id *Identity) ServerConfig() *tls.Config {
	cfg := id.config()
	cfg.ClientAuth = tls.RequireAndVerifyClientCert
	cfg.ClientCAs = id.CA
	cfg.SessionTicketsDisabled = true
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		_, err := PeerName(state)
		return err
	}
	return cfg
}

// ClientConfig is for the side that dials peerNode: TLS 1.3, the server must show the
// certificate of exactly that node. NextProtos is left to the caller.
func (id *Identity) ClientConfig(peerNode string) *tls.Config {
	cfg := id.config()
	cfg.RootCAs = id.CA
	cfg.ServerName = peerNode
	cfg.VerifyConnection = func(state tls.ConnectionState) error {
		name, err := PeerName(state)
		if err == nil && name != peerNode {
			err = fmt.Errorf("the node there is %s, not %s", name, peerNode)
		}
		return err
	}
	return cfg
}

// config turns the growing record sizes off: they help a browser to paint early and a bulk stream not at all.
func (id *Identity) config() *tls.Config {
	return &tls.Config{
		MinVersion:                  tls.VersionTLS13,
		Certificates:                []tls.Certificate{id.Cert},
		DynamicRecordSizingDisabled: true,
	}
}

// PeerName returns the node at the other end of a connection made with one of the
// two configurations, after its handshake.
func PeerName(state tls.ConnectionState) (string, error) {
	if len(state.PeerCertificates) == 0 {
		return "", errors.New("the peer showed no certificate")
	}
	return NodeName(state.PeerCertificates[0])
}
