// Package image reads, edits, packs and seals what CRIU leaves in its image
// directory, and defines the form in which pages travel beside it.
//
// CRIU trusts its images completely: a crafted image makes it open, map and
// write whatever the image says, as root. So nothing here hands a directory on
// before names, sizes, digests and the signature of a node have been checked,
// and nothing here assumes that a file is well formed because it has the right
// name.
//
//	a move                                   a checkpoint on storage
//
//	images ─ Pack ──► stream ──► Unpack      images + page stream
//	   │                                        │
//	   ├─ Pagemaps: which pages the target      └─ Seal: manifest.json, manifest.sig
//	   │  must hold, and which of them are         Open: the only way back
//	   │  lazy (come as page batches)
//	   └─ SetClocks: readings at the freeze
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
//
// # Formats of CRIU
//
// An image is two 32-bit magic numbers (the common one, then one per kind) and
// records of a 32-bit length and a protobuf message. The messages are decoded
// here by hand with protowire: a pagemap of a fragmented job has hundreds of
// thousands of entries, they must cost no allocation each, and the types of
// go-criu do not know field 5 of pagemap_entry, which CRIU 4.2 added.
package image
