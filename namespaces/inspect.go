package namespaces

import (
	"fmt"
	"os"
	"strings"

	"github.com/migrate-hpc/migrate/procfs"
)

// Kinds of namespaces that a job has, as /proc/PID/ns names them.
var Kinds = []string{"user", "pid", "ipc", "net", "uts", "time", "mnt", "cgroup"}

// Nestable are the kinds of which CRIU makes more than one for a job.
var Nestable = []string{"mnt", "net"}

// Of returns the namespaces of a process: kind → the kernel's name for the instance, such as
// "pid:[4026531836]".
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

// kernelFS are file system types that a job gets its own instance of, or none. Every other mount
// of the node carries files that jobs use.
var kernelFS = map[string]bool{
	"proc": true, "sysfs": true, "devtmpfs": true, "devpts": true, "mqueue": true, "cgroup": true, "cgroup2": true,
	"tmpfs": true, "ramfs": true, "securityfs": true, "debugfs": true, "tracefs": true, "configfs": true, "pstore": true,
	"bpf": true, "hugetlbfs": true, "efivarfs": true, "autofs": true, "fusectl": true, "binfmt_misc": true, "nsfs": true,
	"rpc_pipefs": true, "overlay": true, "squashfs": true,
}

// NodeMounts lists the node's mounts that carry files of jobs: homes, scratch, shared file
// systems. It leaves out the root, and what lies beneath any of skip.
func NodeMounts(skip ...string) ([]Mount, error) {
	table, err := procfs.MountTable(os.Getpid())
	if err != nil {
		return nil, err
	}
	var mounts []Mount
	seen := map[string]bool{"/": true}
	for _, m := range table {
		if seen[m.Target] || kernelFS[m.Type] || isBelow(m.Target, skip) {
			continue
		}
		seen[m.Target] = true
		mounts = append(mounts, Mount{Source: m.Target, Target: m.Target, ReadOnly: strings.HasPrefix(m.Options, "ro"), Node: true})
	}
	return mounts, nil
}

func isBelow(path string, dirs []string) bool {
	for _, d := range append([]string{"/proc", "/sys", "/dev", "/run", "/tmp", "/boot"}, dirs...) {
		if path == d || strings.HasPrefix(path, strings.TrimSuffix(d, "/")+"/") {
			return true
		}
	}
	return false
}
