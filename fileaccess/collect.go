package fileaccess

import (
	"fmt"
	"os"
	"strings"

	"github.com/migrate-hpc/migrate/procfs"
)

// collector gathers, as root, what tasks hold of the node's files, each once.
type collector struct {
	job     Job
	mounts  map[uint64]place
	program [2]uint64 // that the task runs: device and inode
	mapped  map[mapping]bool
	seen    map[file]bool
	files   []held
}

func (c *collector) task(pid int) error {
	dir := fmt.Sprintf("/proc/%d", pid)
	who, err := nameOf(dir)
	if err != nil {
		return err
	}
	links, err := openLinks(dir)
	if err != nil {
		return err
	}
	defer links.Close()
	for _, name := range []string{"cwd", "root"} {
		if err := c.add(links, name, "the "+name+" of "+who, toReach); err != nil {
			return err
		}
	}
	c.program = [2]uint64{}
	err = c.add(links, "exe", "the program of "+who, toExecute)
	if err != nil && !procfs.IsGone(err) { // a kernel thread has none
		return err
	}
	if err := c.descriptors(dir, who); err != nil {
		return err
	}
	return c.mappings(dir, who)
}

// nameOf calls a task by the number that it has in its job.
func nameOf(dir string) (string, error) {
	status, err := procfs.ReadFields(dir + "/status")
	if err != nil {
		return "", err
	}
	pids := status["NSpid"]
	return fmt.Sprintf("process %s (%s)", pids[strings.LastIndexByte(pids, '\t')+1:], strings.TrimSpace(status["Name"])), nil
}

func (c *collector) descriptors(dir, who string) error {
	f, err := os.Open(dir + "/fd")
	if err != nil {
		return err
	}
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := c.add(f, name, "descriptor "+name+" of "+who, asOpened); err != nil && !procfs.IsGone(err) {
			return err
		}
	}
	return nil
}

// mapping is a file that is mapped privately, by tasks that run one program.
type mapping struct {
	program [2]uint64
	what    string
}

// mappings looks at one mapping of each file that is mapped privately: they differ in
// nothing that matters. Of shared ones each may be of another descriptor.
func (c *collector) mappings(dir, who string) error {
	links, err := openLinks(dir + "/map_files")
	if err != nil {
		return err
	}
	defer links.Close()
	for at, err := range procfs.Maps(dir + "/maps") {
		if err != nil {
			return err
		}
		m := mapping{c.program, at.Device + " " + at.Inode + " " + at.Name}         // which tells one file from every other
		if at.Device == "00:00" && at.Inode == "0" || !at.Shared() && c.mapped[m] { // the former is plain memory
			continue
		}
		n := asOpened
		if !at.Shared() {
			c.mapped[m] = true
			n = toMap
		}
		if err := c.add(links, at.Link(), "a mapping of "+who, n); err != nil && !procfs.IsGone(err) {
			return err
		}
	}
	return nil
}
