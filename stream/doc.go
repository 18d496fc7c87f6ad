// Package stream defines what a connection and a checkpoint's file both carry: frames
// and their compression, page runs, digests of pages, and the heads of the streams on a lane.
//
// # Streams, version 1
//
// A stream is written by Writer to a data connection or a file. It knows its own
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
// # Packing
//
// Each frame's codec is chosen while running; see chooser. Packing is worth its time on a
// slow link or for memory that shrinks well, and costs throughput on a fast one.
//
// # Page batches
//
// A frame of a page stream holds one or more runs, one after the other. All
// numbers are little endian:
//
//	 0        4        8                 16       20        24
//	┌────────┬────────┬─────────────────┬────────┬─────────┬──────────────────┐
//	│ vpid   │ flags  │ address         │ pages  │ 0       │ pages × 4096 B   │
//	│ u32    │ u32    │ u64             │ u32    │ u32     │ absent if zero   │
//	└────────┴────────┴─────────────────┴────────┴─────────┴──────────────────┘
//
// At most one flag bit is set. Bit 0 says that every page of the run is zero; a
// memory that is mostly zero so costs 24 bytes however long it is. Bit 1 says that
// the pages equal others: vpid u32, 0 u32, address u64 of those follow in place of
// data. Bit 2 says that the reader is to forget the pages. Runs are read in order,
// so a copy is of what its source is by the runs before it on the same lane.
package stream
