package namespaces

// Config is all that the two stages need to start a command in namespaces of
// its own. It crosses a pipe as JSON.
type Config struct {
	Hostname string `json:"hostname"`
	// RootDir is an empty directory that becomes the mount point of the root.
	RootDir string `json:"root_dir"`
	// Root is the directory that the command sees as /.
	Root string `json:"root"`
	// IODir is bound at IOMount and holds the job's own output files.
	IODir string `json:"io_dir"`
	// Mounts are bound by path, in order, parents first.
	Mounts []Mount `json:"mounts,omitempty"`

	Args    []string `json:"args"`
	Env     []string `json:"env,omitempty"`
	WorkDir string   `json:"work_dir"`
	Stdin   string   `json:"stdin"`
	Stdout  string   `json:"stdout"`
	Stderr  string   `json:"stderr"`

	// The ids are also those that the job's user has on the node. Groups are not mapped,
	// so in a user namespace the job has none.
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

// PrivateMap maps the 65536 ids of a job to the range that starts at base, but
// for self, which stays itself outside, so that the owner's files remain the
// owner's. Root's own id is never kept: root inside is nobody outside.
func PrivateMap(base, self uint32) []IDMap {
	const ids = 1 << 16
	if self == 0 || self >= ids {
		return []IDMap{{Inside: 0, Outside: base, Count: ids}}
	}
	maps := []IDMap{{Inside: 0, Outside: base, Count: self}, {Inside: self, Outside: self, Count: 1}}
	if self == ids-1 { // the kernel takes no empty line
		return maps
	}
	return append(maps, IDMap{Inside: self + 1, Outside: base + self + 1, Count: ids - self - 1})
}

// Outside translates an id of the job to the node's, and reports whether the
// maps know it. Without maps ids are the node's own.
func Outside(maps []IDMap, id uint32) (uint32, bool) {
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
