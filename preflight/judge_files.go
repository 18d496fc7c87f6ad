package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// targetFile is a file as the target has it.
type targetFile struct {
	inode
	Network   bool // on a file system that several nodes share
	Err       error
	DeniedUID uint32 // the job's user, if it does not get there or may not do what the job does; else 0
}

// named is how many files a finding names.
const named = 10

// mismatch is one way in which files differ, with the files that do.
type mismatch struct {
	code         Code
	what, remedy string
	first        []string
	count        int
}

func (m *mismatch) add(file string) {
	m.count++
	if m.count <= named {
		m.first = append(m.first, file)
	}
}

func (m *mismatch) tell(r *report) {
	if m.count == 0 {
		return
	}
	list := strings.Join(m.first, ", ")
	if m.count > named {
		list += fmt.Sprintf(" and %d more", m.count-named)
	}
	r.add(m.code, m.remedy, "%s: %s", m.what, list)
}

// judgeFiles compares the job's open and mapped files with the target's files of the same paths.
// The function see looks one up; with sure it asks a file server anew. This foresees validate_file
// and the check of the mode in CRIU's criu/files-reg.c.
func judgeFiles(ctx context.Context, r *report, n Needs, see func(f File, sure bool) targetFile) error {
	missing := mismatch{code: FileMissing, what: "the job has files open or mapped that are missing on this node",
		remedy: "have them on a file system that both nodes mount, or copy them: `rsync -aR SOURCE:PATH /`; for programs and libraries install the same packages"}
	denied := mismatch{code: FileDenied, what: "root may not reach files of the job on this node",
		remedy: "export the file system without root_squash to the nodes of the cluster, or let root search the directories: `chmod o+x DIRECTORY`"}
	barred := mismatch{code: FileDenied, remedy: rightsRemedy}
	size := mismatch{code: FileSize, what: "files of the job have another size on this node",
		remedy: "have them on a file system that both nodes mount, or copy them: `rsync -aR SOURCE:PATH /`; for programs and libraries install the same versions. A file that is shared and still differs is being written by another program: wait until that is over"}
	mode := mismatch{code: FileMode, what: "files of the job have another type or mode on this node",
		remedy: "give them the mode that they have on the source: `chmod MODE PATH`"}
	for _, f := range n.Files {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		here := see(f, false)
		switch {
		case here.DeniedUID != 0:
			barred.what = fmt.Sprintf("on this node user %d does not get to files of the job, or may not open them as the job has", here.DeniedUID)
			barred.add(f.Path)
			continue // and is told nothing else
		case errors.Is(here.Err, fs.ErrPermission):
			denied.add(f.Path)
		case here.Err != nil:
			missing.add(f.Path)
		case here.Mode != f.Mode:
			mode.add(fmt.Sprintf("%s (%s here, %s there)", f.Path, modeName(here.Mode), modeName(f.Mode)))
		case f.Size >= 0 && here.Size != f.Size && !growing(f, here) && see(f, true).Size != f.Size:
			size.add(fmt.Sprintf("%s (%d bytes here, %d there)", f.Path, here.Size, f.Size))
		}
	}
	for _, m := range []*mismatch{&missing, &denied, &barred, &mode, &size} {
		m.tell(r)
	}
	return nil
}

// growing is true of a file that the job writes, if this node has the same file. Its size now says
// nothing about its size at the freeze.
func growing(f File, here targetFile) bool { return f.Written && shared(f, here) }

// shared tells whether the target has the very file that the source has, as far
// as that can be told.
func shared(f File, here targetFile) bool { return here.Network || here.Ino == f.Inode }

// modeName writes a mode as ls(1) does.
func modeName(m uint32) string {
	mode := os.FileMode(m & 0o777)
	switch m & unix.S_IFMT {
	case unix.S_IFDIR:
		mode |= os.ModeDir
	case unix.S_IFIFO:
		mode |= os.ModeNamedPipe
	case unix.S_IFLNK:
		mode |= os.ModeSymlink
	}
	return fmt.Sprintf("%v %04o", mode, m&0o7777)
}
