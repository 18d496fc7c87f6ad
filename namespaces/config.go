package namespaces

import (
	"fmt"
	"slices"
)

// Config is all that the two stages need to start a command in new namespaces. It crosses a pipe
// as JSON.
type Config struct {
	Hostname string `json:"hostname"`
	// Keyring names the job's session keyring, see thread.NewKeyring.
	Keyring string `json:"keyring,omitempty"`
	// RootDir is an empty directory that becomes the mount point of the root.
	RootDir string `json:"root_dir"`
	// Root is the directory that the command sees as /.
	Root string `json:"root"`
	// IODir is bound at IOMount and holds the job's own output files.
	IODir string `json:"io_dir"`
	// Mounts are bound by path, in order, parents first.
	Mounts []Mount `json:"mounts,omitempty"`
	// Files lie over those of the root; a path that the root does not have is left out.
	Files []File `json:"files,omitempty"`

	Args    []string `json:"args"`
	Env     []string `json:"env,omitempty"`
	WorkDir string   `json:"work_dir"`
	Stdin   string   `json:"stdin"`
	Stdout  string   `json:"stdout"`
	Stderr  string   `json:"stderr"`

	// The ids are also those that the job's user has on the node.
	UID     uint32   `json:"uid"`
	GID     uint32   `json:"gid"`
	Groups  []uint32 `json:"groups,omitempty"`
	Rlimits []Rlimit `json:"rlimits,omitempty"`
	Umask   uint32   `json:"umask"`

	// User asks for a user namespace; the maps are given in UIDs and GIDs.
	User bool    `json:"user,omitempty"`
	UIDs []IDMap `json:"uids,omitempty"`
	GIDs []IDMap `json:"gids,omitempty"`
}

// IOMount is where a job finds its own output files.
const IOMount = "/dev/job"

// Mount is a directory or file of the node, bound at Target inside the job.
type Mount struct {
	Source   string `json:"source"`
	Target   string `json:"target"`
	ReadOnly bool   `json:"read_only,omitempty"`
	// Node says that Source is the node's choice, not the user's; it has no links.
	Node bool `json:"node,omitempty"`
}

// Rlimit is a resource limit by its setrlimit(2) number.
type Rlimit struct {
	Resource int    `json:"resource"`
	Soft     uint64 `json:"soft"`
	Hard     uint64 `json:"hard"`
}

// IDMap is one line of uid_map or gid_map: Count ids from Inside on, mapped to
// Outside on.
type IDMap struct {
	Inside  uint32 `json:"inside"`
	Outside uint32 `json:"outside"`
	Count   uint32 `json:"count"`
}

// privateIDs is how many ids a job in a user namespace has of its own.
const privateIDs = 1 << 16

// PrivateMaps are the maps of a job in a user namespace. Its 65536 ids are the range of the node
// that starts at base. The ids of its user and of the user's groups stay the same on both sides.
// So files keep their owner, and files closed to a group stay closed to it. Root is mapped into
// the range; only a primary group other than root's own is kept.
func PrivateMaps(base, uid, gid uint32, groups []uint32) (uids, gids []IDMap) {
	if uid != 0 {
		return privateMap(base, uid), privateMap(base, append([]uint32{gid}, groups...)...)
	}
	if gid != 0 {
		return privateMap(base), privateMap(base, gid)
	}
	return privateMap(base), privateMap(base)
}

// privateMap leaves each id of own as it is.
func privateMap(base uint32, own ...uint32) (maps []IDMap) {
	own = slices.Clone(own)
	slices.Sort(own)
	next := uint32(0) // the first that is not mapped yet
	private := func(end uint32) {
		if next < end {
			maps = append(maps, IDMap{Inside: next, Outside: base + next, Count: end - next})
			next = end
		}
	}
	for _, id := range slices.Compact(own) {
		private(min(id, privateIDs))
		if n := len(maps); n > 0 && maps[n-1].Outside == maps[n-1].Inside && maps[n-1].Inside+maps[n-1].Count == id {
			maps[n-1].Count++
		} else {
			maps = append(maps, IDMap{Inside: id, Outside: id, Count: 1})
		}
		next = max(next, min(id+1, privateIDs))
	}
	private(privateIDs)
	return maps
}

// FitsKernel tells whether the kernel accepts a map: less than a page, and at most 340 lines
// (kernel/user_namespace.c).
func FitsKernel(maps []IDMap) bool {
	const page, most = 4096, 340
	text := ""
	for _, m := range maps {
		text += fmt.Sprintf("%d %d %d\n", m.Inside, m.Outside, m.Count)
	}
	return len(text) < page && len(maps) <= most
}

// HostID translates an id of the job to the node's, and reports whether the maps know it. Without
// maps the ids are the node's own.
func HostID(maps []IDMap, id uint32) (uint32, bool) {
	if len(maps) == 0 {
		return id, true
	}
	for _, m := range maps {
		if id >= m.Inside && id-m.Inside < m.Count {
			return m.Outside + (id - m.Inside), true
		}
	}
	return 0, false
}

func rootMount(root string) Mount {
	if root == "" {
		root = "/"
	}
	return Mount{Source: root}
}
