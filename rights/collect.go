package rights

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// collector gathers, as root, what tasks hold of the node's files, each once.
type collector struct {
	job    Job
	mounts map[uint64]place
	seen   map[file]bool
	runs   map[[2]uint64]bool // the programs, by device and inode
	files  []held
}

func (c *collector) task(pid int) error {
	dir := fmt.Sprintf("/proc/%d", pid)
	who, err := nameOf(dir)
	if err != nil {
		return err
	}
	for _, name := range []string{"cwd", "root"} {
		if err := c.add(dir+"/"+name, "the "+name+" of "+who, always(toReach)); err != nil {
			return err
		}
	}
	err = c.add(dir+"/exe", "the program of "+who, always(toExecute))
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
		if err := c.add(dir+"/fd/"+name, "descriptor "+name+" of "+who, asOpened); err != nil && !gone(err) {
			return err
		}
	}
	return nil
}

// mappings looks at one mapping of each file that is mapped privately: they differ in
// nothing that matters. Of shared ones each may be of another descriptor.
func (c *collector) mappings(dir, who string) error {
	maps, err := os.Open(dir + "/maps")
	if err != nil {
		return err
	}
	defer maps.Close()
	lines := bufio.NewScanner(maps)
	seen := map[string]bool{}
	for lines.Scan() {
		span, private, what, ok := mapped(lines.Text())
		if !ok || private && seen[what] {
			continue
		}
		n := needs(asOpened)
		if private {
			seen[what] = true
			n = always(toMap)
		}
		if err := c.add(dir+"/map_files/"+span, "a mapping of "+who, n); err != nil && !gone(err) {
			return err
		}
	}
	return lines.Err()
}

// mapped reads a line of /proc/PID/maps, see proc_pid_maps(5). what tells one file from
// every other; span is its name in map_files, which has no zeros before the numbers.
func mapped(line string) (span string, private bool, what string, ok bool) {
	f := strings.SplitN(line, " ", 6)
	if len(f) < 6 || len(f[1]) != 4 || f[4] == "0" {
		return "", false, "", false
	}
	from, to, ok := strings.Cut(f[0], "-")
	low, err := strconv.ParseUint(from, 16, 64)
	high, err2 := strconv.ParseUint(to, 16, 64)
	return fmt.Sprintf("%x-%x", low, high), f[1][3] == 'p', strings.Join(f[3:], " "), ok && err == nil && err2 == nil
}
