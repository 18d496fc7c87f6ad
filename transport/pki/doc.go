// Package pki gives every node of a cluster one name that its peers can check.
//
// A move hands a running job, with all of its memory, to another machine, and the
// agent there is root. So the peer's name must be proved before the first byte of
// the job, and a stored checkpoint must be proved before CRIU, which trusts its
// images completely, reads one. Both proofs come from the same small hierarchy:
//
//	ca.key ──signs──► ca.crt                    one per cluster; the key stays with the operator
//	   │
//	   └────signs──► node.crt ◄── node.key      one pair per node
//	                    │
//	                    ├── TLS, as client and as server: who is at the other end
//	                    └── signatures over manifests: who sealed this checkpoint
//
// A node certificate carries the node's name twice, as its only DNS name and as the
// common name; a certificate in which the two differ names no node. The CA may not
// sign further authorities (path length 0), and an authority's own certificate is
// no node's.
//
// Keys are ECDSA P-256: every TLS stack that an operator may point at the agent
// knows it, and it signs manifests as well. Manifest signatures are made over
// SHA-256 of a fixed prefix and the data, so that a signature made for TLS can
// never pass for one over a manifest, nor the other way round.
//
// There are no revocation lists: a node is shut out by its certificate's expiry or by
// a new CA. Certificates are valid from one hour before they are issued, because the
// clocks of nodes differ.
package pki
