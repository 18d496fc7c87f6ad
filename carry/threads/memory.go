package threads

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/migrate-hpc/migrate/procfs"
)

// area is a part of a process's memory that has something unusual.
type area struct {
	Start       uint64 `json:"start"`
	End         uint64 `json:"end"`
	Policy      policy `json:"policy,omitzero"`         // of its own, see mbind(2)
	Sealed      bool   `json:"sealed,omitempty"`        // see mseal(2)
	LockOnFault bool   `json:"lock_on_fault,omitempty"` // see mlock2(2)
}

func (a area) check() error {
	if a.Start >= a.End || a.Start%pageSize != 0 || a.End%pageSize != 0 || a.End >= 1<<56 {
		return fmt.Errorf("memory from %#x to %#x", a.Start, a.End)
	}
	return a.Policy.check()
}

func (a area) size() uint64 { return a.End - a.Start }

const pageSize = 4096

// areasOf finds the unusual areas of a process. usual is the policy of its main thread, once threads
// returns. For both files the kernel walks the page tables, and CRIU cannot begin in the process
// meanwhile. So they are read at the same time: that takes as long as CRIU's own look.
func areasOf(pid int, threads func() (usual policy, err error)) (list []area, err error) {
	var both errgroup.Group
	var flagged []procfs.Mapping
	var policies []policyAt
	both.Go(func() (err error) {
		flagged, err = procfs.Flagged(pid, "sl", "lf")
		return err
	})
	both.Go(func() (err error) {
		policies, err = policiesOf(pid)
		return err
	})
	usual, err := threads()
	if err := errors.Join(both.Wait(), err); err != nil {
		return nil, err
	}
	for _, m := range flagged {
		list = append(list, area{Start: m.Start, End: m.End, Sealed: m.Has("sl"), LockOnFault: m.Has("lf")})
	}
	policies = slices.DeleteFunc(policies, func(p policyAt) bool { return p.policy == usual })
	if len(policies) == 0 {
		return list, nil
	}
	ends, err := endsOf(pid)
	if err != nil {
		return nil, err
	}
	for _, p := range policies {
		if end, ok := ends[p.start]; ok {
			list = append(list, area{Start: p.start, End: end, Policy: p.policy})
		}
	}
	return list, nil
}

type policyAt struct {
	start  uint64
	policy policy
}

// policiesOf are those of a process's mappings that are not the usual one. Mappings without one of
// their own show that of the thread that was asked for.
func policiesOf(pid int) (list []policyAt, err error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/numa_maps", pid))
	if errors.Is(err, fs.ErrNotExist) { // CONFIG_NUMA
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<10)
	for lines.Scan() {
		start, text, _ := strings.Cut(lines.Text(), " ")
		if strings.HasPrefix(text, "default ") || text == "default" {
			continue
		}
		p := policyAt{}
		if p.start, err = strconv.ParseUint(start, 16, 64); err != nil {
			return nil, err
		}
		if p.policy, err = cutPolicy(text); err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, lines.Err()
}

// endsOf maps the start of a mapping to its end.
func endsOf(pid int) (map[uint64]uint64, error) {
	ends := map[uint64]uint64{}
	for m, err := range procfs.Maps(fmt.Sprintf("/proc/%d/maps", pid)) {
		if err != nil {
			return nil, err
		}
		ends[m.Start] = m.End
	}
	return ends, nil
}

// policyOf is a thread's own policy: that of its program, the first mapping. Of a short read the kernel
// looks at little more than that.
func policyOf(pid, tid int) (policy, error) {
	path := fmt.Sprintf("/proc/%d/task/%d/numa_maps", pid, tid)
	for most := 64; ; most *= 16 {
		text, err := readText(path, most)
		if errors.Is(err, fs.ErrNotExist) || err == nil && text == "" { // CONFIG_NUMA; or it has ended
			return policy{}, nil
		}
		if err != nil {
			return policy{}, err
		}
		_, told, _ := strings.Cut(text, " ")
		if strings.HasPrefix(told, "default") {
			return policy{}, nil
		}
		if line, _, whole := strings.Cut(told, "\n"); whole || len(text) < most {
			return cutPolicy(line)
		}
	}
}
