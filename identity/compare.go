package identity

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/migrate-hpc/migrate/namespaces"
)

// Difference is one thing that is not as it may be.
type Difference struct {
	Who     string // "thread 7 of process 3"
	What    string // "the effective uid"
	Has     string
	Allowed string
}

func (d Difference) Error() string {
	return fmt.Sprintf("%s has %s %s, and %s is allowed", d.Who, d.What, d.Has, d.Allowed)
}

// Differences is an error that tells the first of them.
type Differences []Difference

func (d Differences) Error() string {
	if len(d) == 1 {
		return d[0].Error()
	}
	return fmt.Sprintf("%v; and %d more", d[0], len(d)-1)
}

func (d Differences) orNil() error {
	if len(d) == 0 {
		return nil
	}
	return d
}

func (d *Differences) add(who, what string, has, allowed any) {
	*d = append(*d, Difference{who, what, fmt.Sprint(has), fmt.Sprint(allowed)})
}

func (id ID) String() string {
	if id.PID == id.TID {
		return fmt.Sprintf("process %d", id.PID)
	}
	return fmt.Sprintf("thread %d of process %d", id.TID, id.PID)
}

// Compare wants a job to be what the record says, on a kernel that knows such capabilities.
// It returns [Differences]. What one of them leaves open is not compared.
func Compare(has, record Job, kernel Kernel) error {
	var d Differences
	d.sameThreads(has, record)
	d.sameUserNS(has.UserNS, record.UserNS)
	d.sameNests(has.Nested, record.Nested)
	for _, id := range has.ids() {
		if want, ok := record.Threads[id]; ok {
			got := has.Threads[id]
			d.same(id, got, kernel.can(got, want))
		}
	}
	return d.orNil()
}

func (d *Differences) sameThreads(has, record Job) {
	for _, id := range has.ids() {
		if _, ok := record.Threads[id]; !ok {
			d.add("the job", "a task more:", id, "none")
		}
	}
	for _, id := range record.ids() {
		if _, ok := has.Threads[id]; !ok {
			d.add("the job", "no", id, "one")
		}
	}
}

func (d *Differences) sameUserNS(has, want *UserNS) {
	if has == nil || want == nil {
		if has != want {
			d.add("the job", "as its user namespace", whose(has != nil), whose(want != nil))
		}
		return
	}
	d.sameMaps(*has, *want)
	if has.Setgroups != want.Setgroups && has.Setgroups != "" && want.Setgroups != "" {
		d.add("the job's user namespace", "for setgroups", has.Setgroups, want.Setgroups)
	}
}

func (d *Differences) sameMaps(has, want UserNS) {
	if !slices.Equal(has.UIDs, want.UIDs) {
		d.add("the job's user namespace", "the uid map", show(has.UIDs), show(want.UIDs))
	}
	if !slices.Equal(has.GIDs, want.GIDs) {
		d.add("the job's user namespace", "the gid map", show(has.GIDs), show(want.GIDs))
	}
}

func (d *Differences) sameNests(has, want map[int]Nest) {
	both := maps.Clone(want)
	if both == nil {
		both = map[int]Nest{}
	}
	maps.Copy(both, has)
	for _, pid := range slices.Sorted(maps.Keys(both)) {
		if has[pid] != want[pid] {
			d.add(ID{pid, pid}.String(), "as its mount and network namespace", has[pid], want[pid])
		}
	}
}

func (n Nest) String() string {
	return fmt.Sprintf("numbers %d and %d of the job's", n.Mount, n.Net)
}

func whose(own bool) string {
	if own {
		return "one of its own"
	}
	return "the node's"
}

func show(maps []namespaces.IDMap) string {
	var lines []string
	for _, m := range maps {
		lines = append(lines, fmt.Sprintf("%d→%d×%d", m.Inside, m.Outside, m.Count))
	}
	return "[" + strings.Join(lines, " ") + "]"
}

var (
	uidNames = [4]string{"the uid", "the effective uid", "the saved uid", "the uid for files"}
	gidNames = [4]string{"the gid", "the effective gid", "the saved gid", "the gid for files"}
)

// same compares all that a thread has.
func (d *Differences) same(id ID, has, want Thread) {
	who := id.String()
	for i := range has.UIDs {
		if has.UIDs[i] != want.UIDs[i] {
			d.add(who, uidNames[i], has.UIDs[i], want.UIDs[i])
		}
		if has.GIDs[i] != want.GIDs[i] {
			d.add(who, gidNames[i], has.GIDs[i], want.GIDs[i])
		}
	}
	if !slices.Equal(has.Groups, want.Groups) {
		d.add(who, "the groups", has.Groups, want.Groups)
	}
	for _, s := range []struct {
		what      string
		has, want uint64
	}{
		{"inheritable", has.Inheritable, want.Inheritable}, {"permitted", has.Permitted, want.Permitted}, {"effective", has.Effective, want.Effective},
		{"bounding", has.Bounding, want.Bounding}, {"ambient", has.Ambient, want.Ambient},
	} {
		if s.has != s.want {
			d.add(who, "the "+s.what+" capabilities", fmt.Sprintf("%#x", s.has), fmt.Sprintf("%#x", s.want))
		}
	}
	if has.NoNewPrivs != want.NoNewPrivs {
		d.add(who, "no_new_privs", has.NoNewPrivs, want.NoNewPrivs)
	}
	if has.Seccomp != want.Seccomp {
		d.add(who, "seccomp in mode", has.Seccomp, want.Seccomp)
	}
	if has.Filters != want.Filters && has.Filters != Unknown && want.Filters != Unknown {
		d.add(who, "seccomp filters:", has.Filters, want.Filters)
	}
	if has.Securebits != want.Securebits && has.Securebits != Unknown && want.Securebits != Unknown {
		d.add(who, "the securebits", fmt.Sprintf("%#x", has.Securebits), fmt.Sprintf("%#x", want.Securebits))
	}
}
