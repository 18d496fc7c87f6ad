package namespaces

import (
	"bufio"
	"fmt"
	"os"
	"strings"
)

// Kinds of namespaces that a job has, as /proc/PID/ns names them.
var Kinds = []string{"user", "pid", "ipc", "net", "uts", "time", "mnt", "cgroup"}

// Of returns the namespaces of a process: kind → the kernel's name for the
// instance, such as "pid:[4026531836]".
func Of(pid int) (map[string]string, error) {
	ns := map[string]string{}
	for _, k := range Kinds {
		name, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", pid, k))
		if err != nil {
			return nil, fmt.Errorf("namespaces of process %d: %w", pid, err)
		}
		ns[k] = name
	}
	return ns, nil
}

// MountPoint is one line of mountinfo; see proc(5).
type MountPoint struct {
	ID, Parent   string
	Device       string // major:minor
	Root         string // within its file system
	Target       string
	Options      string
	Type         string
	Source       string
	SuperOptions string
}

// MountTable reads the mounts that a process sees, in mount order.
func MountTable(pid int) ([]MountPoint, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var mounts []MountPoint
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m, ok := parseMount(lines.Text())
		if !ok {
			return nil, fmt.Errorf("mountinfo of process %d: strange line %q", pid, lines.Text())
		}
		mounts = append(mounts, m)
	}
	return mounts, lines.Err()
}

func parseMount(line string) (MountPoint, bool) {
	left, right, ok := strings.Cut(line, " - ")
	l, r := strings.Fields(left), strings.Fields(right)
	if !ok || len(l) < 6 || len(r) < 3 {
		return MountPoint{}, false
	}
	return MountPoint{
		ID: l[0], Parent: l[1], Device: l[2], Root: unescape(l[3]), Target: unescape(l[4]), Options: l[5],
		Type: r[0], Source: unescape(r[1]), SuperOptions: r[2],
	}, true
}

var unescape = strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace

// ofTheKernel are the file systems that a job gets instances of its own of, or
// none at all. Every other mount of the node carries files that jobs use.
var ofTheKernel = map[string]bool{
	"proc": true, "sysfs": true, "devtmpfs": true, "devpts": true, "mqueue": true, "cgroup": true, "cgroup2": true,
	"tmpfs": true, "ramfs": true, "securityfs": true, "debugfs": true, "tracefs": true, "configfs": true, "pstore": true,
	"bpf": true, "hugetlbfs": true, "efivarfs": true, "autofs": true, "fusectl": true, "binfmt_misc": true, "nsfs": true,
	"rpc_pipefs": true, "overlay": true, "squashfs": true,
}

// NodeMounts lists the node's mounts that carry files which jobs use: homes,
// scratch, shared file systems. The root itself is not among them, nor what lies
// beneath any of skip.
func NodeMounts(skip ...string) ([]Mount, error) {
	table, err := MountTable(os.Getpid())
	if err != nil {
		return nil, err
	}
	var mounts []Mount
	seen := map[string]bool{"/": true}
	for _, m := range table {
		if seen[m.Target] || ofTheKernel[m.Type] || beneath(m.Target, skip) {
			continue
		}
		seen[m.Target] = true
		mounts = append(mounts, Mount{Source: m.Target, Target: m.Target, ReadOnly: strings.HasPrefix(m.Options, "ro"), Node: true})
	}
	return mounts, nil
}

func beneath(path string, dirs []string) bool {
	for _, d := range append([]string{"/proc", "/sys", "/dev", "/run", "/tmp", "/boot"}, dirs...) {
		if path == d || strings.HasPrefix(path, strings.TrimSuffix(d, "/")+"/") {
			return true
		}
	}
	return false
}
