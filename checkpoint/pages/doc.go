// Package pages reads the memory of a frozen job, page by page as CRIU's pagemaps list
// it, and writes it as page runs (package image) to the data streams of a move.
//
//	regions ──► queue ──► worker 1: read ─ drop zeros ─ WriteFrame ──► stream 1
//	(lazy only)   │   └─► worker 2: read ─ drop zeros ─ WriteFrame ──► stream 2
//	              └ hands out one frame's worth of pages at a time
//
// One worker per stream, because compression and TLS behind WriteFrame cost more than
// reading, and a stream's back pressure should hold up one worker, not all.
//
// A frame is built in place. The pages are read (process_vm_readv) to where they would
// lie if none of them were zero; then zero runs shrink to their headers and what follows
// moves down. A zero page makes more room than the two headers that it costs, so the
// frame only ever gets shorter and no page is copied in the usual case.
//
//	read into    [hdr|page|page|0000|page] [hdr|page]
//	sent         [hdr|page|page][zero][hdr|page][hdr|page]
//
// process_vm_readv does not read memory that the job itself may not read (PROT_NONE,
// where garbage collectors and debug allocators keep data). Such pages come through
// /proc/PID/mem, which may.
//
// The job stands still meanwhile. So a page that cannot be read is never a race to be
// shrugged off: it is an error, and the move is given up.
package pages
