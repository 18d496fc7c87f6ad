package checkpoint

import (
	"strings"
	"testing"
)

// A frozen copy in held may be one of two. The hint says to look on all nodes before a thaw.
func TestWhoFindsAFrozenCopyIsToldToLookBeforeTheyThawIt(t *testing.T) {
	above, held := &Suspended{Cgroup: "/x/job"}, &Suspended{Cgroup: "/x/job/held", ByUnknownMove: true}
	if says := above.ResumeHint(); !strings.Contains(says, "scontrol resume") || strings.Contains(says, "rm -f") {
		t.Errorf("frozen by a scheduler: %s", says)
	}
	says := held.ResumeHint()
	look, end, thaw := strings.Index(says, "migrate ps -a"), strings.Index(says, "migrate rm -f"), strings.Index(says, "echo ")
	if look < 0 || end < look || thaw < end || strings.Contains(says, "scontrol") {
		t.Errorf("frozen in held: %s", says)
	}
	if strings.Contains(held.Error(), "not by a move") {
		t.Errorf("frozen in held: %v", held)
	}
}
