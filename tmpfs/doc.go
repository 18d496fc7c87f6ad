// Package tmpfs carries the content of a job's private tmpfs mounts, /dev/shm and
// /tmp, from node to node.
//
// CRIU would pack such a mount with tar and gzip while the job is frozen, at some
// tens of megabytes per second. So to CRIU these mounts are external: the source
// leaves them alone, and the target shows CRIU a tmpfs that is complete already.
//
//	source                                             target
//	round   walk ─► changed pages of files ──────────► files by number, in a
//	  ⋮      (a hash per page, job runs)                staging directory
//	freeze  walk ─► names, owners, modes, times …
//	        pages that changed since ────────────────► pages
//	        the names ───────────────────────────────► files get their names; the
//	                                                   staging directory goes
//
// While the job runs only content crosses. The source gives each file a number for that,
// so renaming, linking and unlinking cost nothing. Names and attributes cross once, when
// nothing can change any more.
//
// A file may be written through a mapping, of which its times tell nothing. So every
// round reads every page that exists and compares a hash of it, also at the freeze.
//
// The source reads as root what a job has made, and trusts none of it. It holds the
// file system itself and not a path (open_tree(2)). It goes down name by name, follows
// nothing, and opens regular files only. Sizes may change while
// it reads. The target builds on a mount that no other process sees: it is attached
// nowhere until CRIU starts, and vanishes with the last process that holds it.
//
// # Page frames
//
// A frame holds runs of consecutive pages of files. Numbers are little endian:
//
//	 0         8         16      20      24
//	┌─────────┬─────────┬───────┬───────┬──────────────────┐
//	│ file    │ offset  │ pages │ flags │ pages × 4096 B   │
//	│ u64     │ u64     │ u32   │ u32   │ if flags are 0   │
//	└─────────┴─────────┴───────┴───────┴──────────────────┘
//
// Flag 1 says that the pages are a hole; flag 2, with no pages, that the file is gone
// and its number never comes again.
//
// # Name frames
//
// A frame holds a JSON array of entries, see Entry; a directory before what is in it.
package tmpfs
