package preflight

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// Look is what one look at a running job has seen.
type Look struct {
	Needs    Needs     // of a target
	Findings []Finding // why the job cannot leave

	init   int
	cgroup *cgroup.Cgroup
	facts  *jobFacts // nil: too little could be seen
}

// News looks at the frozen job for what it has opened, mapped and locked since l. The job stands
// still meanwhile. So of each task it reads names only, and looks closely at those that are new.
// It returns the files that a target must have in addition.
func (l *Look) News(ctx context.Context) ([]File, []Finding, error) {
	if l.facts == nil {
		return nil, nil, nil
	}
	changed, err := l.changed(ctx)
	if err != nil || len(changed) == 0 {
		return nil, nil, err
	}
	now := *l.facts
	now.Tasks = append(changed[:len(changed):len(changed)], l.facts.Tasks...) // for those that judge by who is in the job
	var r report
	for _, t := range changed {
		now.judgeHeld(&r, t)
	}
	now.Tasks = changed
	if now.FIFOs, err = readFIFOs(&now); err != nil {
		return nil, nil, err
	}
	now.judgePipes(&r)
	return l.Needs.Lacks(now.files()), r.findings(), nil
}

// changed are the tasks of the job that hold something new, with just that.
func (l *Look) changed(ctx context.Context) (changed []task, err error) {
	pids, err := l.cgroup.Pids()
	if err != nil {
		return nil, err
	}
	locked, err := lockedInodes()
	if err != nil {
		return nil, err
	}
	known := make(map[int]task, len(l.facts.Tasks))
	for _, t := range l.facts.Tasks {
		known[t.Host] = t
	}
	born := false
	for _, pid := range pids {
		t, ok := known[pid]
		if !ok {
			born = true
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		if err := l.since(&t, locked); err != nil {
			return nil, err
		}
		if len(t.Opened)+len(t.Mapped) > 0 {
			changed = append(changed, t)
		}
	}
	if !born {
		return changed, nil
	}
	entries, err := pidmap.InNamespace(l.init)
	if err == nil {
		err = l.facts.view.addNested(l.facts.Spaces["mnt"], hostPIDs(entries))
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if _, ok := known[e.Host]; ok {
			continue
		}
		t, err := readTask(e, l.facts.view, l.init)
		if err != nil {
			return nil, err
		}
		changed = append(changed, t)
	}
	return changed, err
}

// since leaves of a task what it holds now and did not, or has locked since.
func (l *Look) since(t *task, locked map[uint64]bool) error {
	h := openFiles{pid: t.Host, init: l.init, view: l.facts.view}
	had := make(map[int]descriptor, len(t.Opened))
	for _, d := range t.Opened {
		had[d.Number] = d // -1 for several, which are compared by what they are
	}
	dirs := t.Opened
	t.Opened = nil
	links, err := h.links()
	if procfs.IsGone(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for n, link := range links {
		if old, ok := had[n]; ok && old.Link == link && (old.Locked || old.Leased || !locked[old.Ino]) {
			continue
		}
		d, err := h.descriptor(n)
		if procfs.IsGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		if old, ok := had[n]; !ok || old.Link != d.Link || d.Locked || d.Leased {
			t.Opened = append(t.Opened, d)
		}
	}
	if err := h.dirsSince(t, dirs); err != nil {
		return err
	}
	return h.mappedSince(t)
}

// dirsSince adds the directories and the program that were others before.
func (h openFiles) dirsSince(t *task, before []descriptor) error {
	had := map[string]bool{}
	for _, d := range before {
		if d.Number < 0 {
			had[d.Link] = true
		}
	}
	for _, name := range ownLinks {
		link, err := os.Readlink(h.proc(name))
		if err != nil || had[link] {
			continue // it has ended, or is as it was
		}
		f, err := h.file(h.proc(name))
		if procfs.IsGone(err) {
			continue
		}
		if err != nil {
			return err
		}
		t.Opened = append(t.Opened, descriptor{file: f, Number: -1})
	}
	return nil
}

// mappedSince leaves the mappings that are new. A task with as much address space as before is
// taken to have mapped nothing.
func (h openFiles) mappedSince(t *task) error {
	had := map[string]bool{}
	for _, m := range t.Mapped {
		had[m.Link] = true
	}
	t.Mapped = nil
	size, err := h.addressSpace()
	if procfs.IsGone(err) || err == nil && size == t.Space {
		return nil
	}
	if err != nil {
		return err
	}
	all, err := h.mapped()
	for _, m := range all {
		if !had[m.Link] {
			t.Mapped = append(t.Mapped, m)
		}
	}
	return err
}

// addressSpace is the size of a process's address space, in pages; 0 for a zombie.
func (h openFiles) addressSpace() (uint64, error) {
	text, err := os.ReadFile(h.proc("statm"))
	if err != nil {
		return 0, err
	}
	size, _, _ := bytes.Cut(text, []byte(" "))
	return strconv.ParseUint(string(size), 10, 64)
}

// links are the descriptors of a process and what the kernel calls them.
func (h openFiles) links() (map[int]string, error) {
	dir, err := os.Open(h.proc("fd"))
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	buf := make([]byte, unix.PathMax)
	links := make(map[int]string, len(names))
	for _, name := range names {
		n, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		size, err := unix.Readlinkat(int(dir.Fd()), name, buf)
		if err != nil {
			continue // of a process that ends; a name that is too long is no name
		}
		links[n] = string(buf[:size])
	}
	return links, nil
}

// lockedInodes are the numbers of the files on which anybody on this node has a lock.
func lockedInodes() (map[uint64]bool, error) {
	text, err := os.ReadFile("/proc/locks")
	if err != nil {
		return nil, fmt.Errorf("locks of this node: %w", err)
	}
	found := map[uint64]bool{}
	for line := range strings.Lines(string(text)) {
		for _, field := range strings.Fields(line) { // the first with two colons: major:minor:inode
			if at := strings.LastIndexByte(field, ':'); strings.Count(field, ":") == 2 {
				if ino, err := strconv.ParseUint(field[at+1:], 10, 64); err == nil {
					found[ino] = true
				}
			}
		}
	}
	return found, nil
}

// Lacks are those of files that a target was not asked for.
func (n Needs) Lacks(files []File) []File {
	asked := make(map[string]File, len(n.Files))
	for _, f := range n.Files {
		asked[f.Path] = f
	}
	var lacks []File
	for _, f := range files {
		old, ok := asked[f.Path]
		if !ok || old.Inode != f.Inode || f.Locked && !old.Locked || f.Access&^old.Access != 0 {
			lacks = append(lacks, f)
		}
	}
	return lacks
}
