package preflight

import "github.com/migrate-hpc/migrate/job"

// Needs is all that a job asks of the node that it comes to. It crosses to the
// target in one control message.
type Needs struct {
	Arch   string   `json:"arch"`                // as GOARCH
	Kernel string   `json:"kernel"`              // release of the source
	CRIU   string   `json:"criu"`                // version of the source, "4.2.1"
	CPU    []string `json:"cpu_flags,omitempty"` // of the source's processor, sorted

	// Memory is the sum of the resident sets, in bytes: what is shared by copy-on-write
	// here comes back as separate copies.
	Memory int64 `json:"memory"`

	Files []File `json:"files,omitempty"`
	// FilesLeftOut counts the files beyond what one message can carry.
	FilesLeftOut int `json:"files_left_out,omitempty"`

	Root    string     `json:"root,omitempty"` // directory of the node; "" = its own tree
	WorkDir string     `json:"work_dir,omitempty"`
	Mounts  []job.Bind `json:"mounts,omitempty"` // the node's mounts and the binds of the job
	Bridge  string     `json:"bridge,omitempty"` // "" = none

	UserNS  bool   `json:"user_ns,omitempty"`
	UIDBase uint32 `json:"uid_base,omitempty"`
}

// File is a regular file of the node that the job has open or mapped.
type File struct {
	Path string `json:"path"` // on the node
	Size int64  `json:"size"` // bytes
	Mode uint32 `json:"mode"` // permission bits, with set-uid, set-gid and sticky
}

// Bounds of Needs.Files: a target must be able to refuse a peer that names more.
const (
	MaxFiles     = 20000
	MaxFileBytes = 700 << 10 // of JSON; a control message holds 1 MiB
)
