package preflight

import (
	"strconv"
	"strings"

	"github.com/migrate-hpc/migrate/procfs"
)

// describeProcess describes a process that does not seem to be in the job. One that has
// ended meanwhile is none.
func describeProcess(pid int) (process, bool) {
	status, err := procfs.ReadStatus(pid)
	if err != nil {
		return process{}, false
	}
	p := process{Pid: pid, Comm: status["Name"]}
	p.PPid, _ = strconv.Atoi(status["PPid"])
	if nested := strings.Fields(status["NSpid"]); len(nested) > 0 {
		p.Job, _ = strconv.Atoi(nested[len(nested)-1])
	}
	if strings.HasPrefix(status["State"], "Z") {
		p.Headless = status["Threads"] != "1"
		return p, p.Headless
	}
	return p, true
}

func itoa(n int) string { return strconv.Itoa(n) }
