package pidmap

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// status holds what this package needs of /proc/PID/status.
type status struct {
	name  string
	state byte
	ppid  int
	nspid []int // from the reader's namespace inwards
}

// inside picks the id in the namespace that lies depth levels above the task's own.
func (s status) inside(depth int) (int, error) {
	i := len(s.nspid) - 1 - depth
	if i < 0 {
		return 0, fmt.Errorf("%d pids are shown, %d wanted: /proc belongs to a pid namespace inside the job", len(s.nspid), depth+1)
	}
	return s.nspid[i], nil
}

func parseStatus(text string) (status, error) {
	fields := map[string]string{}
	for line := range strings.Lines(text) {
		// A name cannot forge a line: the kernel escapes its line ends.
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ":\t"); ok {
			fields[key] = value
		}
	}
	st := status{name: unescape.Replace(fields["Name"])}
	if fields["State"] == "" {
		return status{}, fmt.Errorf("no State")
	}
	st.state = fields["State"][0]
	var err error
	if st.ppid, err = strconv.Atoi(fields["PPid"]); err != nil {
		return status{}, fmt.Errorf("PPid: %w", err)
	}
	for _, field := range strings.Fields(fields["NSpid"]) {
		id, err := strconv.Atoi(field)
		if err != nil {
			return status{}, fmt.Errorf("NSpid: %w", err)
		}
		st.nspid = append(st.nspid, id)
	}
	if len(st.nspid) == 0 {
		return status{}, fmt.Errorf("no NSpid: the kernel needs pid namespaces (CONFIG_PID_NS)")
	}
	return st, nil
}

// unescape undoes what the kernel does to a task's name (proc_task_name).
var unescape = strings.NewReplacer(`\\`, `\`, `\n`, "\n")

// numbers returns the entries of a folder of /proc that are numbers, ascending.
func numbers(dir string) ([]int, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	return numbersIn(f)
}

func numbersIn(f *os.File) ([]int, error) {
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var ids []int
	for _, name := range names {
		if id, err := strconv.Atoi(name); err == nil {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids, nil
}
