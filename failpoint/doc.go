// Package failpoint lets a test make a program fail at a place of the test's choice.
//
// The promise of this product is about the moments between two steps: after the
// record is on the disk, before the peer has heard of it. No test hits them from
// outside but by luck. So the code names them:
//
//	failpoint.Point("before", role, state)        a moment
//	err := failpoint.Fail("sync", path)           a moment at which something can also go wrong
//
// Both are empty and are compiled to nothing, arguments included, unless the
// program is built with the tag faults. Then a plan says what happens where. The
// plan is a file, named by MIGRATE_FAULTS; one that is missing holds no faults. It
// is read at every point, so a test changes it while the program runs. One line is
// one fault:
//
//	after.source.committed 1 kill      the first time: SIGKILL to this process
//	dump.ended 2 pause                 the second time: stay there until the line is taken out of the plan
//	sync.*.journal 1+ eio              from the first time on: return EIO; or enospc
//
// A point's name is its arguments joined by dots; of an argument that is a path,
// the last element. The first word of a line is a pattern, path.Match. Times are
// counted per process and line, and anew when the plan changes. What takes place is
// appended to the file PLAN.hits before it does, one line per fault, the pid at its
// end.
package failpoint
