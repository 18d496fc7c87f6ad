package node

import (
	"fmt"
	"strings"
	"testing"
)

// What a move changes: each row of the table in docs/jobs.md has its test here, or names another
// one.

func TestFilesInMemoryHaveOtherNumbersAfterAMove(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.launch("--", "sh", "-c", "for d in /tmp /dev/shm; do echo text >$d/gone; echo text >$d/file; rm $d/gone; touch -d @1 $d/file; chmod 640 $d/file; done; echo ready; exec sleep 1000")
	stat := func(on *node, format string) string {
		return on.migrate("exec", j.id, "--", "stat", "-c", format, "/tmp/file", "/dev/shm/file").want(t, 0).out
	}
	const same, other = "%A %u %g %s %Y", "%i %d"
	j.ready(a)
	was, had := stat(a, same), stat(a, other)
	j.move(a, b)
	if is := stat(b, same); is != was {
		t.Errorf("files are %q after a move, and were %q", is, was)
	}
	if has := stat(b, other); has == had {
		t.Errorf("inode and device are the same after a move, %q: the document says that they change", strings.TrimSpace(has))
	}
}

func TestLandlockAndKeysOfProcessesAreGoneAfterAMove(t *testing.T) {
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.launch("--", shared.helper, "confine")
	says := func(on *node, want string) {
		t.Helper()
		eventually(t, limit, func() error {
			out := strings.TrimSpace(j.logs(on))
			if last := out[strings.LastIndex(out, "\n")+1:]; last != want {
				return fmt.Errorf("the job says %q, not %q", last, want)
			}
			return nil
		})
	}
	says(a, "HELPER FILE false KEY true")
	j.move(a, b)
	says(b, "HELPER FILE true KEY false") // as the document says
}

// changes wants what the helper tells of something after a move to be another thing than without
// one, as the document says.
func changes(t *testing.T, name, without, after string) {
	t.Helper()
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	first := func(state string) string {
		told, _, _ := strings.Cut(state, " 1:")
		return strings.TrimPrefix(told, "0:"+name+"=")
	}
	stays, moves := a.attributes("0", name), a.attributes("0", name)
	stays.attributeState(a, 0)
	if told := first(stays.attributeState(a, 1)); told != without {
		t.Errorf("without a move: %s, want %s", told, without)
	}
	moves.attributeState(a, 0)
	moves.move(a, b)
	if told := first(moves.attributeState(b, 1)); told != after {
		t.Errorf("after a move: %s; the document says %s", told, after)
	}
}

func TestAMoveForgetsWhatSemaphoresAreToUndo(t *testing.T) { changes(t, "semundo", "0", "1") }

func TestAMoveTakesAwayThatAFileWithoutANameCanGetOne(t *testing.T) {
	changes(t, "tmpfile", "<nil>", "no such file or directory")
}

func TestAfterAMoveAFIFOThatWaitsForItsFirstWriterIsHungUp(t *testing.T) {
	changes(t, "fifo", "0", "16")
}

func TestAMoveEndsDnotify(t *testing.T) { changes(t, "dnotify", "true", "false") }

func TestAfterAMoveMemoryThatIsLockedOnFaultIsAllThere(t *testing.T) {
	changes(t, "resident", "0", "16")
}

func TestAMoveEndsTheDenialOfNewCode(t *testing.T) { changes(t, "mdwe", "1", "0") }

func TestAMoveForgetsUnreadEventsOfInotify(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	read := func(j *job, n *node) string {
		t.Helper()
		n.migrate("kill", "-s", "USR1", j.id).want(t, 0)
		var told string
		eventually(t, limit, func() error {
			_, after, found := strings.Cut(j.logs(n), "HELPER READ ")
			if told = after; !found {
				return fmt.Errorf("nothing was read: %s", j.stderr(n))
			}
			return nil
		})
		return told
	}
	watches := func() *job {
		j := a.launch("--", shared.helper, "watch", "/tmp")
		eventually(t, limit, func() error {
			if out := j.logs(a); !strings.Contains(out, "HELPER WATCHES") {
				return fmt.Errorf("%s %s", clip(out), j.stderr(a))
			}
			return nil
		})
		return j
	}
	stays, moves := watches(), watches()
	if told := read(stays, a); !strings.Contains(told, "before") || !strings.Contains(told, "after") {
		t.Errorf("without a move it reads %s", told)
	}
	moves.move(a, b)
	if told := read(moves, b); strings.Contains(told, "before") || !strings.Contains(told, "after") {
		t.Errorf("after a move it reads %s; the document says that the first is forgotten", told)
	}
}

func TestAfterAMoveAFileThatWasReplacedHasLostItsName(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	a, b := c.two()
	j := a.launch("--", "sh", "-c", `cp /bin/sleep /tmp/prog; cp /bin/sleep /tmp/new; echo text >/tmp/data; echo text >/tmp/gone; exec 5</tmp/data; exec 6</tmp/gone
		/tmp/prog 1000 & until [ "$(readlink /proc/$!/exe)" = /tmp/prog ]; do :; done; mv /tmp/new /tmp/prog; rm /tmp/data /tmp/gone; echo other >/tmp/data; echo $! >/tmp/pid; echo ready; exec /bin/sleep 1000`)
	j.ready(a)
	see := func(n *node) string {
		return n.migrate("exec", j.id, "--", "sh", "-c", "readlink /proc/$(cat /tmp/pid)/exe /proc/1/fd/5 /proc/1/fd/6; cat /proc/1/fd/5 /tmp/data; cmp /proc/$(cat /tmp/pid)/exe /bin/sleep").want(t, 0).out
	}
	const rest = "/tmp/gone (deleted)\ntext\nother\n"
	if was := see(a); was != "/tmp/prog (deleted)\n/tmp/data (deleted)\n"+rest {
		t.Errorf("without a move: %q", was)
	}
	j.move(a, b)
	if is := see(b); is != "/tmp/prog.cr_link (deleted)\n/tmp/data.cr_link (deleted)\n"+rest {
		t.Errorf("after a move: %q; the document says that the names are others", is)
	}
}
