package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// maxNodeName is the longest name in octets that DNS, and so a DNS name in a certificate, allows (RFC 1035 §3.1).
const maxNodeName = 253

// CheckNodeName says whether name can name a node: a DNS name in lower case, as
// `uname -n` prints on a cluster node, with neither a wildcard nor the form of an address.
func CheckNodeName(name string) error {
	if name == "" || len(name) > maxNodeName {
		return fmt.Errorf("node name of %d characters: it must have 1 to %d", len(name), maxNodeName)
	}
	if _, err := netip.ParseAddr(name); err == nil {
		return fmt.Errorf("node name %q is an address: use the node's host name", name)
	}
	for label := range strings.SplitSeq(name, ".") {
		if !validLabel(label) {
			return fmt.Errorf("node name %q: use lower-case letters, digits and inner hyphens, in parts of 1 to 63 characters separated by dots", name)
		}
	}
	return nil
}

func validLabel(label string) bool {
	if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
		return false
	}
	for _, c := range label {
		if c != '-' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// NodeName returns the name of the node that cert was issued to. It reads names only;
// that cert is trusted must have been established before.
func NodeName(cert *x509.Certificate) (string, error) {
	if cert.IsCA {
		return "", errors.New("the certificate is an authority's, not a node's")
	}
	name := cert.Subject.CommonName
	if len(cert.DNSNames) != 1 || cert.DNSNames[0] != name {
		return "", fmt.Errorf("the certificate's common name %q is not its one DNS name %q", name, cert.DNSNames)
	}
	return name, CheckNodeName(name)
}
