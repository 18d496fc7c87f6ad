package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/pidmap"
)

// Of reads the identity of every thread in the pid namespace of init. The job must stand
// still, or be stopped otherwise.
func Of(init int) (Job, error) {
	all, err := pidmap.InNamespace(init)
	if err != nil {
		return Job{}, err
	}
	return read(init, all)
}

func read(init int, all []pidmap.Entry) (j Job, err error) {
	j.Threads = map[ID]Thread{}
	for _, p := range all {
		for _, t := range p.Threads {
			thread, ended, err := readThread(taskDir(p.Host, t.Host))
			if err != nil {
				return j, fmt.Errorf("identity of %v: %w", ID{p.Job, t.Job}, err)
			}
			if !ended {
				j.Threads[ID{p.Job, t.Job}] = thread
			}
		}
	}
	j.UserNS, err = userNSOf(init)
	return j, err
}

func taskDir(pid, tid int) string { return fmt.Sprintf("/proc/%d/task/%d", pid, tid) }

// readThread says also whether the thread has ended and is only not collected yet.
func readThread(dir string) (t Thread, ended bool, err error) {
	text, err := os.ReadFile(dir + "/status")
	if err != nil {
		return t, false, err
	}
	return parseStatus(string(text))
}

// parseStatus reads /proc/PID/status, see proc_pid_status(5). A name cannot forge a line:
// the kernel escapes its line ends.
func parseStatus(text string) (t Thread, ended bool, err error) {
	t.Filters, t.Securebits = Unknown, Unknown // Seccomp_filters: Linux 5.9
	missing := len(needed)
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t")
		read, ok := fields[key]
		if !ok {
			continue
		}
		if err := read(&t, strings.Fields(value)); err != nil {
			return t, false, fmt.Errorf("%s: %w", key, err)
		}
		if needed[key] {
			missing--
		}
		ended = ended || key == "State" && (value[0] == 'Z' || value[0] == 'X')
	}
	if missing != 0 && !ended {
		return t, false, errors.New("the kernel does not tell the status of a thread in full (CONFIG_SECCOMP?)")
	}
	return t, ended, nil
}

var needed = map[string]bool{"State": true, "Uid": true, "Gid": true, "Groups": true, "CapInh": true, "CapPrm": true, "CapEff": true, "CapBnd": true,
	"CapAmb": true, "NoNewPrivs": true, "Seccomp": true}

var fields = map[string]func(*Thread, []string) error{
	"State": func(_ *Thread, f []string) error {
		if len(f) == 0 {
			return errStrange
		}
		return nil
	},
	"Uid":    func(t *Thread, f []string) error { return four(&t.UIDs, f) },
	"Gid":    func(t *Thread, f []string) error { return four(&t.GIDs, f) },
	"Groups": func(t *Thread, f []string) error { return groups(&t.Groups, f) },
	"CapInh": func(t *Thread, f []string) error { return one(&t.Inheritable, f, 16) },
	"CapPrm": func(t *Thread, f []string) error { return one(&t.Permitted, f, 16) },
	"CapEff": func(t *Thread, f []string) error { return one(&t.Effective, f, 16) },
	"CapBnd": func(t *Thread, f []string) error { return one(&t.Bounding, f, 16) },
	"CapAmb": func(t *Thread, f []string) error { return one(&t.Ambient, f, 16) },
	"NoNewPrivs": func(t *Thread, f []string) error {
		var n uint64
		err := one(&n, f, 10)
		t.NoNewPrivs = n != 0
		return err
	},
	"Seccomp":         func(t *Thread, f []string) error { return count(&t.Seccomp, f) },
	"Seccomp_filters": func(t *Thread, f []string) error { return count(&t.Filters, f) },
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

func gone(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) }
