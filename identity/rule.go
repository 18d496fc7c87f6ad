package identity

import (
	"fmt"

	"github.com/migrate-hpc/migrate/namespaces"
)

// Rule is what a job's specification lets it be, whoever has written its images.
type Rule struct {
	UID, GID uint32
	Groups   []uint32
	// UserNS says that the job has a user namespace of its own, with these maps.
	UserNS     bool
	UIDs, GIDs []namespaces.IDMap
}

// anybodysBits are the securebits that need no capability to be set, since Linux 6.14
// (SECURE_ALL_UNPRIVILEGED): they only restrict.
const anybodysBits = 0xf00

// Check returns [Differences] if the job is anything else.
func (r Rule) Check(j Job) error {
	var d Differences
	switch {
	case r.UserNS != (j.UserNS != nil):
		d.sameUserNS(j.UserNS, r.userNS())
	case r.UserNS:
		d.sameMaps(*j.UserNS, *r.userNS())
		if gives(r.UIDs, 0) { // whoever has written the specification
			d.add("the job's user namespace", "the uid map", show(r.UIDs), "none that gives the node's root")
		}
	}
	if len(j.Nested) > 0 && r.UID != 0 { // to make one needs a capability
		d.add("the job", "mount or network namespaces of its own making in", fmt.Sprintf("%d processes", len(j.Nested)), "none")
	}
	for _, id := range j.ids() {
		t := j.Threads[id]
		d.same(id, t, r.allowed(t))
		if r.UserNS {
			r.within(&d, id, t)
		}
	}
	return d.orNil()
}

func (r Rule) userNS() *UserNS {
	if !r.UserNS {
		return nil
	}
	return &UserNS{UIDs: InOrder(r.UIDs), GIDs: InOrder(r.GIDs)}
}

// allowed is what a thread may be that says to be t. Filters and a smaller bounding set take
// rights away, so they are the thread's own affair. A user's job has no capability, in a user
// namespace of its own neither: so nobody in it can change an id or give up a group.
func (r Rule) allowed(t Thread) Thread {
	if r.UID == 0 {
		t.NoNewPrivs = true // the launch sets it, and nobody can take it back
		return t
	}
	a := Thread{
		UIDs: [4]uint32{r.UID, r.UID, r.UID, r.UID}, GIDs: [4]uint32{r.GID, r.GID, r.GID, r.GID}, Groups: SetOf(r.Groups),
		Bounding: t.Bounding, NoNewPrivs: true, Seccomp: t.Seccomp, Filters: t.Filters, Securebits: restricting(t.Securebits),
	}
	for _, c := range namespaces.DroppedCaps(r.UID, r.UserNS) {
		a.Bounding &^= 1 << c
	}
	return a
}

func restricting(bits int64) int64 {
	if bits == Unknown {
		return Unknown
	}
	return bits & anybodysBits
}

// within wants every id of a thread to be one that the job's maps give it.
func (r Rule) within(d *Differences, id ID, t Thread) {
	for i := range t.UIDs {
		if !gives(r.UIDs, t.UIDs[i]) {
			d.add(id.String(), uidNames[i], t.UIDs[i], "one of "+show(r.UIDs))
		}
		if !gives(r.GIDs, t.GIDs[i]) {
			d.add(id.String(), gidNames[i], t.GIDs[i], "one of "+show(r.GIDs))
		}
	}
	for _, g := range t.Groups {
		if !gives(r.GIDs, g) {
			d.add(id.String(), "the group", g, "one of "+show(r.GIDs))
		}
	}
}

func gives(maps []namespaces.IDMap, outside uint32) bool {
	for _, m := range maps {
		if outside >= m.Outside && outside-m.Outside < m.Count {
			return true
		}
	}
	return false
}
