// Package durable is the one place that writes files which must survive a power cut.
//
// A file that is only written and renamed may be empty, old or missing after the power comes
// back: the data, the name and the directory reach the disk separately. A node that
// promises something on the strength of a file needs all three there first:
//
//	WriteFile    temp ─ write ─ chmod ─ fsync ─ close ─ rename ─ fsync(directory)
//	AppendLine   open(O_APPEND) ─ write ─ fsync ─ close ─ fsync(directory) if the file is new
//
// [Seal] and [Verify] let a reader notice what the disk has changed since.
//
// A reader of WriteFile sees the old file or the new one, never a mixture. A reader of
// AppendLine may see a last line cut short, which ends in no newline.
//
// After an error the state of the disk is not known: the new content may be there or not. The
// kernel marks pages that failed clean (fs/buffer.c, mm/filemap.c: an error is reported once).
// So a second fsync may succeed without having written anything. The way out is WriteFile with
// the whole content, which makes new pages.
package durable
