package fileaccess

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
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
	if err != nil && !gone(err) { // a kernel thread has none
		return err
	}
	if err := c.descriptors(dir, who); err != nil {
		return err
	}
	return c.mappings(dir, who)
}

// nameOf calls a task by the number that it has in its job.
func nameOf(dir string) (string, error) {
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return "", err
	}
	name, pid := "", ""
	for line := range strings.Lines(string(status)) {
		switch key, value, _ := strings.Cut(strings.TrimSpace(line), ":"); key {
		case "Name":
			name = strings.TrimSpace(value)
		case "NSpid":
			pid = value[strings.LastIndexByte(value, '\t')+1:]
		}
	}
	return fmt.Sprintf("process %s (%s)", pid, name), nil
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
		if err := c.add(f, name, "descriptor "+name+" of "+who, asOpened); err != nil && !gone(err) {
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
	maps, err := os.Open(dir + "/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	links, err := openLinks(dir + "/map_files")
	if err != nil {
		return err
	}
	defer links.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		span, private, what, ok := parseLine(lines.Text())
		m := mapping{c.program, what}
		if !ok || private && c.mapped[m] {
			continue
		}
		n := asOpened
		if private {
			c.mapped[m] = true
			n = toMap
		}
		if err := c.add(links, span, "a mapping of "+who, n); err != nil && !gone(err) {
			return err
		}
	}
	return lines.Err()
}

// parseLine reads a line of /proc/PID/maps, see proc_pid_maps(5). what tells one file from
// every other; span is its name in map_files, which has no zeros before the numbers.
func parseLine(line string) (span string, private bool, what string, ok bool) {
	f := strings.SplitN(line, " ", 6)
	if len(f) < 6 || len(f[1]) != 4 || f[3] == "00:00" && f[4] == "0" { // the latter is plain memory
		return "", false, "", false
	}
	from, to, ok := strings.Cut(f[0], "-")
	low, err := strconv.ParseUint(from, 16, 64)
	high, err2 := strconv.ParseUint(to, 16, 64)
	return fmt.Sprintf("%x-%x", low, high), f[1][3] == 'p', strings.Join(f[3:], " "), ok && err == nil && err2 == nil
}
