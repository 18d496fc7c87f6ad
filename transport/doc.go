// Package transport carries a move between two agents: it proves who is at the other
// end, keeps messages and bulk data apart, and makes an end that was not meant look like
// what it is. What it carries is opaque to it.
//
// # Connections
//
// An agent has one port. TLS 1.3 with certificates on both sides (package pki) comes first, and
// ALPN says what follows:
//
//	                         ┌─ "migrate/1" ── hello ─┬─ control ┐
//	TCP ── TLS 1.3, mutual ──┤                        └─ data × n┴──► Session     (Accept)
//	                         └─ "http/1.1" ──────────────────────────► http.Server (HTTP)
//
// A session is one control connection for messages and up to 16 data connections for
// streams. Several, because one TCP connection keeps one core busy with encryption and
// recovers alone from its losses. The dialler opens control first, so a data connection
// that no session waits for is refused. Only connections from the same node, by its
// certificate, come together.
//
// Setting a session up has 10 s. Connections that have not proved a name are bounded in number;
// when there are too many the oldest goes, so that silence never shuts a node out.
//
// # Hello, version 1
//
//	"MGRH"  length u32  JSON (Hello, at most 64 KiB)
//
// Integers are little endian throughout. The dialler speaks first, the listener answers
// with the same session, role, index and data, or with a reason why not ("refused"). Node
// must be the name in the certificate, and the name that was dialled. The session has the
// highest version and the features that both announced. On the control connection
// the dialler then sends its clock once more, as unix nanoseconds in a u64. So both
// sides know the skew of their clocks to half a round trip.
//
// # Control messages
//
//	length u32  JSON (Message, 1 byte to 1 MiB)
//
// A message of type "error" carries an Error: code, message, hint. Every failure that
// one agent reports to the other is one.
//
// # Flow control
//
// A stream has its connection to itself while it lasts, so TCP's window is its credit:
// a reader that stops makes the writer block. A connection takes bounded memory
// on both sides: a few buffers of one frame (what came, what it unpacks to), 384 KiB of
// gathered records, and the kernel's socket buffers. Nothing is queued.
package transport
