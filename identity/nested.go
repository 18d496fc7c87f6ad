package identity

import (
	"maps"
	"slices"

	"github.com/migrate-hpc/migrate/namespaces"
)

// Nest says in which mount and network namespace a process is. 0 is PID 1's. The others have
// numbers, in the order of the lowest process in each: so the numbers are the same wherever the
// job is.
type Nest struct {
	Mount int `json:"mnt,omitempty"`
	Net   int `json:"net,omitempty"`
}

// NestsOf numbers namespaces: process → what its mount and its network namespace are called, ""
// for that of PID 1.
func NestsOf(names map[int][2]string) map[int]Nest {
	var nests map[int]Nest
	numbers := [2]map[string]int{{"": 0}, {"": 0}}
	for _, pid := range slices.Sorted(maps.Keys(names)) {
		var at [2]int
		for kind, name := range names[pid] {
			n, known := numbers[kind][name]
			if !known {
				n = len(numbers[kind])
				numbers[kind][name] = n
			}
			at[kind] = n
		}
		if at == [2]int{} {
			continue
		}
		if nests == nil {
			nests = map[int]Nest{}
		}
		nests[pid] = Nest{at[0], at[1]}
	}
	return nests
}

// nested finds out who is in another namespace than PID 1, which must be one that the job has
// made in its own, with its own rights. All threads of a process are in the same. Everything else
// is a difference.
func nested(init int, all []member, d *Differences) (map[int]Nest, error) {
	others, err := otherNamespacesOf(init, all)
	if err != nil {
		return nil, err
	}
	names := map[int][2]string{}
	owned := map[string]bool{}
	for i, m := range all {
		for _, name := range slices.Sorted(maps.Keys(others[i])) {
			if !slices.Contains(namespaces.Nestable, name) {
				d.add(m.id.String(), "as its "+name+" namespace", others[i][name], "that of PID 1")
				continue
			}
			if owned[others[i][name]] {
				continue
			}
			owned[others[i][name]] = true
			own, err := namespaces.OwnedLike(m.host, name, init)
			if err != nil {
				return nil, err
			}
			if !own {
				d.add(m.id.String(), "as its "+name+" namespace", "one of another user namespace", "one of the job's")
			}
		}
		has := [2]string{others[i]["mnt"], others[i]["net"]}
		if first, seen := names[m.id.PID]; seen && first != has {
			d.add(m.id.String(), "as its mount and network namespace", has, first)
		}
		names[m.id.PID] = has
	}
	return NestsOf(names), nil
}
