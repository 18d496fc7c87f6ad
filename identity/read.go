package identity

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/procfs"
)

// Of reads the identity of every thread in the pid namespace of init. The job must stand
// still, or be stopped otherwise. It returns [Differences] if a thread is in a namespace that no
// job may have.
func Of(init int) (Job, error) {
	all, err := membersOf(init)
	if err != nil {
		return Job{}, err
	}
	var d Differences
	j, err := jobOfMembers(init, all, &d)
	if err != nil {
		return j, err
	}
	return j, d.orNil()
}

func jobOfMembers(init int, all []member, d *Differences) (j Job, err error) {
	j.Threads = map[ID]Thread{}
	for _, m := range all {
		j.Threads[m.id] = m.thread
	}
	if j.Nested, err = nested(init, all, d); err != nil {
		return j, err
	}
	j.UserNS, err = userNSOf(init)
	return j, err
}

func readStatus(dir string) (status, error) {
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return status{}, err
	}
	st, err := parseStatus(string(text))
	if err != nil {
		return st, fmt.Errorf("%s/status: %w", dir, err)
	}
	return st, nil
}

// status is what /proc/PID/status tells.
type status struct {
	thread Thread
	ended  bool // it is only not collected yet
	number int  // in its own pid namespace
}

// parseStatus reads a status, see proc_pid_status(5).
func parseStatus(text string) (st status, err error) {
	told := procfs.ParseFields(text)
	st.thread.Filters, st.thread.Securebits = Unknown, Unknown // Seccomp_filters: Linux 5.9
	missing := false
	for key, read := range fields {
		value, ok := told[key]
		if !ok {
			missing = missing || needed[key]
			continue
		}
		if err := read(&st, strings.Fields(value)); err != nil {
			return st, fmt.Errorf("%s: %w", key, err)
		}
	}
	if missing && !st.ended {
		return st, errors.New("the kernel does not tell all of it (CONFIG_SECCOMP, CONFIG_PID_NS)")
	}
	return st, nil
}

var needed = map[string]bool{"State": true, "NSpid": true, "Uid": true, "Gid": true, "Groups": true, "CapInh": true, "CapPrm": true, "CapEff": true,
	"CapBnd": true, "CapAmb": true, "NoNewPrivs": true, "Seccomp": true}

var fields = map[string]func(*status, []string) error{
	"State": func(st *status, f []string) error {
		if len(f) == 0 {
			return errStrange
		}
		st.ended = f[0] == "Z" || f[0] == "X"
		return nil
	},
	"NSpid": func(st *status, f []string) (err error) {
		if len(f) == 0 {
			return errStrange
		}
		st.number, err = strconv.Atoi(f[len(f)-1])
		return err
	},
	"Uid":    func(st *status, f []string) error { return four(&st.thread.UIDs, f) },
	"Gid":    func(st *status, f []string) error { return four(&st.thread.GIDs, f) },
	"Groups": func(st *status, f []string) error { return groups(&st.thread.Groups, f) },
	"CapInh": func(st *status, f []string) error { return one(&st.thread.Inheritable, f, 16) },
	"CapPrm": func(st *status, f []string) error { return one(&st.thread.Permitted, f, 16) },
	"CapEff": func(st *status, f []string) error { return one(&st.thread.Effective, f, 16) },
	"CapBnd": func(st *status, f []string) error { return one(&st.thread.Bounding, f, 16) },
	"CapAmb": func(st *status, f []string) error { return one(&st.thread.Ambient, f, 16) },
	"NoNewPrivs": func(st *status, f []string) error {
		var n uint64
		err := one(&n, f, 10)
		st.thread.NoNewPrivs = n != 0
		return err
	},
	"Seccomp":         func(st *status, f []string) error { return count(&st.thread.Seccomp, f) },
	"Seccomp_filters": func(st *status, f []string) error { return count(&st.thread.Filters, f) },
}

var errStrange = errors.New("not as the kernel writes it")

func four(to *[4]uint32, f []string) error {
	if len(f) != len(to) {
		return errStrange
	}
	for i := range f {
		n, err := strconv.ParseUint(f[i], 10, 32)
		if err != nil {
			return err
		}
		to[i] = uint32(n)
	}
	return nil
}

func groups(to *[]uint32, f []string) error {
	var list []uint32
	for _, word := range f {
		n, err := strconv.ParseUint(word, 10, 32)
		if err != nil {
			return err
		}
		list = append(list, uint32(n))
	}
	*to = SetOf(list)
	return nil
}

func one(to *uint64, f []string, base int) (err error) {
	if len(f) != 1 {
		return errStrange
	}
	*to, err = strconv.ParseUint(f[0], base, 64)
	return err
}

func count(to *int64, f []string) error {
	var n uint64
	err := one(&n, f, 10)
	if err == nil && n > 1<<31 {
		err = errStrange
	}
	*to = int64(n)
	return err
}

// userNSOf is nil for a process in our own user namespace.
func userNSOf(pid int) (*UserNS, error) {
	theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid))
	if err != nil {
		return nil, err
	}
	ours, err := os.Readlink("/proc/self/ns/user")
	if err != nil || ours == theirs {
		return nil, err
	}
	ns := &UserNS{}
	for file, to := range map[string]*[]namespaces.IDMap{"uid_map": &ns.UIDs, "gid_map": &ns.GIDs} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
		if err == nil {
			*to, err = parseMap(string(text))
		}
		if err != nil {
			return nil, err
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/setgroups", pid))
	ns.Setgroups = strings.TrimSpace(string(text))
	return ns, err
}

func parseMap(text string) (maps []namespaces.IDMap, err error) {
	for line := range strings.Lines(text) {
		var m namespaces.IDMap
		if _, err := fmt.Sscan(line, &m.Inside, &m.Outside, &m.Count); err != nil {
			return nil, fmt.Errorf("id map %q: %w", line, err)
		}
		maps = append(maps, m)
	}
	return InOrder(maps), nil
}
