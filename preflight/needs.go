package preflight

import (
	"fmt"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/migrate-hpc/migrate/affinity"
	"github.com/migrate-hpc/migrate/criu"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/netpolicy"
)

// Needs is all that a job asks of the node that it comes to. It crosses to the
// target in one control message, together with the job's record.
type Needs struct {
	Arch   string   `json:"arch"`                // as GOARCH
	Kernel string   `json:"kernel"`              // release of the source
	CRIU   string   `json:"criu"`                // version on the source, "4.2.1"; "" = not known
	CPU    []string `json:"cpu_flags,omitempty"` // that programs can make use of, sorted
	// CPUs are those that threads of the job are bound to. With KeepCPUs the target must have them.
	CPUs     affinity.Set `json:"cpus,omitzero"`
	KeepCPUs bool         `json:"keep_cpus,omitempty"`

	// Memory is what the job's memory takes on the target, in bytes. It counts private pages of every
	// task, resident or swapped out, also those that copy-on-write shares here. Shared memory and
	// private tmpfs count once.
	Memory int64 `json:"memory"`
	// CopyOnWrite is the part of Memory that copy-on-write saves on the source, in bytes.
	// A restore by page faults loses it, an eager one keeps it.
	CopyOnWrite int64 `json:"copy_on_write,omitempty"`
	// Segments is the part of Memory that takes its room twice during the restore: shared memory
	// without a path. CRIU's images have it too.
	Segments int64 `json:"segments,omitempty"`
	// Locked is the part of Memory that is private and locked (mlock), about. It is for the
	// source only.
	Locked int64 `json:"-"`
	// InTmpfs is the part of Memory that arrives in file systems of the job's own.
	InTmpfs int64 `json:"in_tmpfs,omitempty"`
	Eager   bool  `json:"eager,omitempty"` // restored by CRIU alone

	Files        []File `json:"files,omitempty"`
	FilesLeftOut int    `json:"files_left_out,omitempty"` // beyond MaxFiles or the size of a message

	Root    string  `json:"root,omitempty"`     // directory of the node; "" = its own tree
	WorkDir string  `json:"work_dir,omitempty"` // on the node; "" = on a mount of the job's own
	Mounts  []Mount `json:"mounts,omitempty"`   // the node's mounts and the job's binds
	Bridge  string  `json:"bridge,omitempty"`   // "" = none

	// Nested says that the job has mount or network namespaces inside its own.
	Nested  bool   `json:"nested,omitempty"`
	UserNS  bool   `json:"user_ns,omitempty"`
	UIDBase uint32 `json:"uid_base,omitempty"`
}

// File is a file or directory of the node that the job has open or mapped.
type File struct {
	Path    string `json:"path"` // on the node
	Size    int64  `json:"size"` // bytes; -1 = does not matter
	Mode    uint32 `json:"mode"` // st_mode, type and permissions
	Inode   uint64 `json:"inode"`
	Written bool   `json:"written,omitempty"` // the job writes it: the size will have changed
	Locked  bool   `json:"locked,omitempty"`  // the job holds a lock on it that excludes others; for targets that do not take such locks over
	Access  uint32 `json:"access,omitempty"`  // what the job may do with it, as access(2) takes it; unix.X_OK: it is a program
}

// Mount is a directory or file of the node that is bound into the job.
type Mount struct {
	Path string `json:"path"` // on the node
	Type string `json:"type"` // of the file system on the source, "nfs4"
	Dir  bool   `json:"dir"`
}

// Bounds of Needs.Files.
const (
	MaxFiles = 20000
	// maxOffer is the JSON of Needs and the job's record together, in bytes: a control
	// message holds 1 MiB.
	maxOffer = 900 << 10
)

// Bounded are as many of the files as a message holds.
func Bounded(files []File) []File {
	n := Needs{Files: files}
	n.bound(job.Record{})
	return n.Files
}

// bound leaves out files that a message with the record would not hold.
func (n *Needs) bound(rec job.Record) {
	slices.SortFunc(n.Files, func(a, b File) int { return strings.Compare(a.Path, b.Path) })
	all := n.Files
	n.Files = nil
	room := maxOffer - jsonSize(rec) - jsonSize(n)
	for _, f := range all {
		room -= jsonSize(f) + 1
		if room < 0 || len(n.Files) == MaxFiles {
			break
		}
		n.Files = append(n.Files, f)
	}
	n.FilesLeftOut = len(all) - len(n.Files)
}

func jsonSize(v any) int {
	data, err := exactjson.Marshal(v)
	if err != nil {
		return maxOffer // cannot be sent in any case
	}
	return len(data)
}

// validate checks what a peer sent.
func (n Needs) validate() error {
	if len(n.Files) > MaxFiles {
		return fmt.Errorf("the source names %d files, above %d", len(n.Files), MaxFiles)
	}
	if n.Memory < 0 || n.Memory > math.MaxInt64/4 {
		return fmt.Errorf("the source names %d bytes of memory", n.Memory)
	}
	for _, part := range []int64{n.CopyOnWrite, n.Segments, n.InTmpfs} {
		if part < 0 || part > n.Memory {
			return fmt.Errorf("the source names %d bytes of %d of memory", part, n.Memory)
		}
	}
	paths := []string{n.Root, n.WorkDir}
	for _, f := range n.Files {
		paths = append(paths, f.Path)
	}
	for _, m := range n.Mounts {
		paths = append(paths, m.Path)
	}
	for _, p := range paths {
		if p != "" && !path.IsAbs(p) {
			return fmt.Errorf("the source names a relative path: %.80q", p)
		}
	}
	return nil
}

// Node is what a target knows about itself.
type Node struct {
	CRIU      *criu.Client // nil = none was found
	Jobs      []job.Record // all that this node has on record, and those that arrive
	Networks  netpolicy.Policy
	MemoryDir string // the tmpfs that will hold images and pages; exists
}
