package threads

import (
	"errors"
	"fmt"
	"strings"

	"github.com/migrate-hpc/migrate/affinity"
)

// policy says on which nodes of memory pages are made, see set_mempolicy(2). Zero is the usual one.
type policy struct {
	Mode  uint32       `json:"mode,omitempty"` // with its flags
	Nodes affinity.Set `json:"nodes,omitzero"`
}

// modes are the kernel's names of modes (mm/mempolicy.c). Longer ones come before their beginnings.
var modes = []struct {
	name string
	mode uint32
}{
	{"default", 0}, {"prefer (many)", 5}, {"prefer", 1}, {"bind", 2}, {"interleave", 3}, {"local", 4}, {"weighted interleave", 6},
}

const lastMode = 6

var modeFlags = map[string]uint32{"static": 1 << 15, "relative": 1 << 14, "balancing": 1 << 13}

// maxNodes is how many nodes of memory a kernel can be built for.
const maxNodes = 1024

var errPolicy = errors.New("memory policy in a form that this migrate does not know")

// cutPolicy reads the policy that a text begins with: prefer=static:0-1.
func cutPolicy(text string) (p policy, err error) {
	known := false
	for _, m := range modes {
		if rest, ok := strings.CutPrefix(text, m.name); ok {
			p.Mode, text, known = m.mode, rest, true
			break
		}
	}
	text, _, _ = strings.Cut(text, " ") // what follows is about the mapping
	flags, nodes, _ := strings.Cut(text, ":")
	if flags != "" {
		names, isFlags := strings.CutPrefix(flags, "=")
		known = known && isFlags
		for name := range strings.SplitSeq(names, "|") {
			flag, ok := modeFlags[name]
			known = known && ok
			p.Mode |= flag
		}
	}
	if !known {
		return policy{}, fmt.Errorf("%w: %.80q", errPolicy, text)
	}
	p.Nodes, err = affinity.Parse(nodes)
	return p, err
}

// check refuses what no kernel tells.
func (p policy) check() error {
	flags := uint32(0)
	for _, f := range modeFlags {
		flags |= f
	}
	if p.Mode&^flags > lastMode || !p.Nodes.Below(maxNodes) {
		return fmt.Errorf("%w: %d", errPolicy, p.Mode)
	}
	return nil
}
