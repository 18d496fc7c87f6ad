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
// when there are too many the oldest goes, so that silence never shuts anybody out.
//
// # Hello, version 1
//
//	"MGRH"  length u32  JSON (Hello, at most 64 KiB)
//
// Integers are little endian throughout. The dialler speaks first, the listener answers
// with the same session, role, index and data, or with a reason why not ("refused"). Node
// must be the name in the certificate, and the name that was dialled. The session has the
// highest version and the features that both announced. On the control connection
// the dialler then sends its clock once more, as unix nanoseconds in a u64, so
// that both sides know the skew of their clocks to half a round trip.
//
// # Control messages
//
//	length u32  JSON (Message, 1 byte to 1 MiB)
//
// A message of type "error" carries an Error: code, message, hint. Every failure that
// one agent reports to the other is one.
//
// # Streams, version 1
//
// A stream is written by StreamWriter to a data connection or a file. It knows its own
// end, and another may follow on the same connection.
//
//	stream:  header  data frame …  end frame
//
//	header   "MGRS"  version u16  kind u16  0 u32                              crc u32
//	frame    type u8  codec u8  flags u16  length u32  raw length u32          crc u32  body
//
// The crc is CRC-32C over the twelve bytes before it: a damaged length is found before
// anything is read by it. Types are 1 data and 2 end; codecs 0 none, 1 s2 (block format) and 2 zstd;
// flags are 0. A data frame holds 1 to MaxFrame bytes, and packing must make it smaller. Lengths
// are checked before a byte is read. The end frame's body is
//
//	payload bytes u64  data frames u64  XXH3-128 of all payloads, big endian, 16 bytes
//
// The digest finds damage and loss; against an attacker there is TLS, or the signature over
// a checkpoint's manifest. A stream without its end is ErrTruncated however
// politely the connection was closed: an agent that dies closes it politely, too.
//
// # Flow control
//
// A stream has its connection to itself while it lasts, so TCP's window is its credit:
// a reader that stops makes the writer block. Memory is bounded on both sides, per connection,
// by a few buffers of one frame (what came, what it unpacks to), 384 KiB of gathered
// records, and the kernel's socket buffers. Nothing is queued.
//
// # Packing
//
// Each frame's codec is chosen while running; see chooser. Packing is worth its time on a
// slow link or for memory that shrinks well, and costs throughput on a fast one.
package transport
