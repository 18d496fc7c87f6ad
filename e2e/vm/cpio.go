package vm

import (
	"fmt"
	"io"
	"strings"
)

// entry is a file for the first RAM disk.
type entry struct {
	path string
	mode uint32 // with the type of file, as in stat(2)
	data []byte
}

// writeRAMDisk writes a cpio archive in the "newc" format, all that the kernel
// reads (Documentation/driver-api/early-userspace/buffer-format.rst).
func writeRAMDisk(w io.Writer, entries []entry) error {
	for i, e := range append(entries, entry{path: "TRAILER!!!"}) {
		if err := e.write(w, i+1); err != nil {
			return err
		}
	}
	return nil
}

func (e entry) write(w io.Writer, inode int) error {
	fields := []int{inode, int(e.mode), 0, 0, 1, 0, len(e.data), 0, 0, 0, 0, len(e.path) + 1, 0}
	var b strings.Builder
	b.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(&b, "%08x", f)
	}
	b.WriteString(e.path)
	b.WriteString(padding(b.Len() + 1)) // the name ends with a zero
	b.WriteByte(0)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	if _, err := w.Write(e.data); err != nil {
		return err
	}
	_, err := io.WriteString(w, padding(len(e.data)))
	return err
}

// padding fills up to a multiple of four.
func padding(n int) string { return strings.Repeat("\x00", (4-n%4)%4) }
