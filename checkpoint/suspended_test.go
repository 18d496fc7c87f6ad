package checkpoint

import (
	"strings"
	"testing"
)

// A copy that is left in held may be one of two: nobody is told to thaw it before they have looked.
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
	if strings.Contains(held.Error(), "somebody else") {
		t.Errorf("frozen in held: %v", held)
	}
}
