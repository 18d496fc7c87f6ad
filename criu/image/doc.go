// Package image reads, edits and packs what CRIU leaves in its image directory.
//
// CRIU trusts its images completely: a crafted image makes it open, map and write
// whatever the image says, as root. So nothing here assumes that a file is well formed
// because it has the right name, and every size is bounded.
//
//	images ─ Pack ──► stream ──► Unpack
//	   │
//	   ├─ Pagemaps: which pages the target must hold, and which of them are
//	   │  lazy (come as page runs)
//	   └─ SetClocks: readings at the freeze
//
// # Formats of CRIU
//
// An image is two 32-bit magic numbers (the common one, then one per kind) and
// records of a 32-bit length and a protobuf message. The messages are decoded
// here by hand with protowire: a pagemap of a fragmented job has hundreds of
// thousands of entries, they must cost no allocation each, and the types of
// go-criu do not know field 5 of pagemap_entry, which CRIU 4.2 added.
package image
