package pidmap

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/procfs"
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
	fields := procfs.ParseFields(text)
	st := status{name: fields.Name()}
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
