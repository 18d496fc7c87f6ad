package tamper

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

// Mutation changes one thing in a directory of images.
type Mutation struct {
	File  string
	Field string // what is changed, such as "creds.euid"
	To    string
	edit  func(record []byte) ([]byte, error)
	at    int // which record
}

func (m Mutation) String() string { return fmt.Sprintf("%s: %s = %s", m.File, m.Field, m.To) }

// Apply changes the image in place.
func (m Mutation) Apply(dir string) error {
	name := filepath.Join(dir, m.File)
	i, err := readImage(name)
	if err != nil {
		return err
	}
	if m.at >= len(i.records) {
		return fmt.Errorf("%v: %w", m, errStrange)
	}
	if i.records[m.at], err = m.edit(i.records[m.at]); err != nil {
		return fmt.Errorf("%v: %w", m, err)
	}
	return i.write(name)
}

type path []protowire.Number

// Fields of CRIU's images (images/*.proto) by where they are in a record.
var (
	idFields = map[string]path{
		"creds.uid": {5, 10, 1}, "creds.gid": {5, 10, 2}, "creds.euid": {5, 10, 3}, "creds.egid": {5, 10, 4},
		"creds.suid": {5, 10, 5}, "creds.sgid": {5, 10, 6}, "creds.fsuid": {5, 10, 7}, "creds.fsgid": {5, 10, 8},
	}
	capFields = map[string]path{
		"creds.cap_inh": {5, 10, 9}, "creds.cap_prm": {5, 10, 10}, "creds.cap_eff": {5, 10, 11}, "creds.cap_bnd": {5, 10, 12}, "creds.cap_amb": {5, 10, 19},
	}
	secbits    = path{5, 10, 13}
	groups     = path{5, 10, 14}
	noNewPrivs = path{5, 10, 18}
	creds      = path{5, 10}
	mode       = path{5, 11}
	filter     = path{5, 12}
	oldMode    = path{3, 11}
	oldFilter  = path{3, 12}
	state      = path{3, 1}
	nsFields   = map[string]protowire.Number{"pid": 5, "net": 6, "ipc": 7, "uts": 8, "mnt": 9, "user": 10, "cgroup": 11, "time": 12}
)

// Mutations lists changes of all that says who the job's threads are, several of each kind.
// None leaves things as they are.
func Mutations(dir string, random *rand.Rand) ([]Mutation, error) {
	all, err := ofInventory(dir)
	if err != nil {
		return nil, err
	}
	for _, kind := range []struct {
		glob string
		of   func(name string, i imageFile, random *rand.Rand) ([]Mutation, error)
	}{{"core-*.img", ofCore}, {"ids-*.img", ofIDs}, {"userns-*.img", ofMaps}, {"pstree.img", ofTree}} {
		names, err := filepath.Glob(filepath.Join(dir, kind.glob))
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			i, err := readImage(name)
			if err != nil {
				return nil, err
			}
			list, err := kind.of(filepath.Base(name), i, random)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			all = append(all, list...)
		}
	}
	return all, nil
}

// setting is a mutation to other values, unless the field has them.
func setting(file string, record []byte, field string, p path, values ...uint64) ([]Mutation, error) {
	was, err := numbers(record, p...)
	if err != nil || slices.Equal(was, values) {
		return nil, err
	}
	return []Mutation{{File: file, Field: field, To: fmt.Sprint(values), edit: func(r []byte) ([]byte, error) { return with(r, values, p...) }}}, nil
}

// core collects changes of one core image.
type core struct {
	file   string
	record []byte
	all    []Mutation
	err    error
}

func (c *core) set(field string, p path, values ...uint64) {
	more, err := setting(c.file, c.record, field, p, values...)
	c.all = append(c.all, more...)
	c.err = errors.Join(c.err, err)
}

func (c *core) has(p path) []uint64 {
	values, err := numbers(c.record, p...)
	c.err = errors.Join(c.err, err)
	return values
}

func ofCore(file string, i imageFile, random *rand.Rand) ([]Mutation, error) {
	c := &core{file: file, record: i.records[0]}
	if len(c.has(secbits)) == 0 { // of a zombie there are none
		return nil, c.err
	}
	c.ids(random)
	c.capabilities(random)
	for _, m := range []uint64{0, 1, 2, 3} {
		if m != 0 || len(c.has(mode)) > 0 {
			c.set("seccomp_mode", mode, m)
		}
	}
	if was := c.has(filter); len(was) > 0 {
		c.set("seccomp_filter", filter)
		c.set("seccomp_filter", filter, was[0]+1)
		if was[0] > 0 {
			c.set("seccomp_filter", filter, was[0]-1)
		}
	}
	c.all = append(c.all, Mutation{File: file, Field: "creds", To: "none", edit: func(r []byte) ([]byte, error) { return without(r, -1, creds...) }})
	if leads := len(c.has(state)) > 0; leads {
		c.set("old_seccomp_mode", oldMode, 0)
		c.set("old_seccomp_filter", oldFilter, 0)
		for _, s := range []uint64{0, 2, 4, 5, 6, 7} {
			c.set("task_state", state, s)
		}
	}
	return c.all, c.err
}

func (c *core) ids(random *rand.Rand) {
	for field, p := range idFields {
		for _, id := range []uint64{0, 1, 4, 12345, 65534, 65536, c.has(p)[0] + 1, uint64(random.Uint32())} {
			c.set(field, p, id)
		}
	}
	member := c.has(groups)
	for _, id := range []uint64{0, 6, 42, uint64(random.Uint32N(60000))} {
		if !slices.Contains(member, id) {
			c.set("creds.groups", groups, append(slices.Clone(member), id)...)
		}
	}
	if len(member) > 0 {
		c.set("creds.groups", groups)
	}
}

func (c *core) capabilities(random *rand.Rand) {
	for field, p := range capFields {
		was := append(c.has(p), 0, 0)[:2]
		for _, bit := range []int{0, 7, 12, 19, 21, 24, 40, random.IntN(41)} {
			flipped := slices.Clone(was)
			flipped[bit/32] ^= 1 << (bit % 32)
			c.set(field, p, flipped...)
		}
	}
	for bit := range 8 {
		c.set("creds.secbits", secbits, c.has(secbits)[0]^1<<bit)
	}
	c.set("creds.no_new_privs", noNewPrivs, 0)
	c.set("creds.no_new_privs", noNewPrivs)
}

// ofIDs puts tasks into other namespaces than those of PID 1, whose numbers are only names.
func ofIDs(file string, i imageFile, random *rand.Rand) (all []Mutation, err error) {
	if file == "ids-1.img" {
		return nil, nil
	}
	for kind, n := range nsFields {
		was, e := numbers(i.records[0], n)
		if e != nil || len(was) == 0 {
			return nil, e
		}
		for _, values := range [][]uint64{{was[0] + 100}, {uint64(random.Uint32())}, {}} {
			more, e := setting(file, i.records[0], "ids."+kind, path{n}, values...)
			if e != nil {
				return nil, e
			}
			all = append(all, more...)
		}
	}
	return all, nil
}

func ofMaps(file string, i imageFile, random *rand.Rand) (all []Mutation, err error) {
	for field, n := range map[string]protowire.Number{"uid_map": 1, "gid_map": 2} {
		for part, k := range map[string]protowire.Number{"first": 1, "lower_first": 2, "count": 3} {
			was, e := numbers(i.records[0], n, k)
			if e != nil || len(was) == 0 {
				return nil, e
			}
			for _, v := range []uint64{0, 1, was[0] + 1, was[0] - 1, uint64(random.Uint32())} {
				if v == was[0] {
					continue
				}
				all = append(all, Mutation{File: file, Field: field + "." + part, To: fmt.Sprint(v), edit: func(r []byte) ([]byte, error) { return firstExtent(r, n, k, v) }})
			}
		}
		all = append(all,
			Mutation{File: file, Field: field, To: "more", edit: func(r []byte) ([]byte, error) { return append(slices.Clone(r), extent(n, 100000, 0, 1)...), nil }},
			Mutation{File: file, Field: field, To: "less", edit: func(r []byte) ([]byte, error) { return without(r, 0, n) }})
	}
	return all, nil
}

func extent(field protowire.Number, first, lower, count uint64) []byte {
	var e []byte
	for k, v := range []uint64{first, lower, count} {
		e = protowire.AppendVarint(protowire.AppendTag(e, protowire.Number(k+1), protowire.VarintType), v)
	}
	return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), e)
}

// firstExtent changes a number of the first line of a map.
func firstExtent(record []byte, field, part protowire.Number, value uint64) (out []byte, err error) {
	done := false
	err = each(record, func(f protowire.Number, _ protowire.Type, v, whole []byte) error {
		if f != field || done {
			out = append(out, whole...)
			return nil
		}
		done = true
		inner, _ := protowire.ConsumeBytes(v)
		inner, err := with(inner, []uint64{value}, part)
		out = protowire.AppendBytes(protowire.AppendTag(out, f, protowire.BytesType), inner)
		return err
	})
	return out, err
}

// ofInventory says that CRIU dumped from within the job's namespaces: the restore then makes none.
func ofInventory(dir string) (all []Mutation, err error) {
	const file, rootIDs = "inventory.img", 3
	outside, err := readImage(filepath.Join(dir, file))
	if err != nil {
		return nil, err
	}
	job, err := readImage(filepath.Join(dir, "ids-1.img"))
	if err != nil {
		return nil, err
	}
	for kind, n := range nsFields {
		if kind == "net" || kind == "cgroup" { // the job inherits them from where CRIU works
			continue
		}
		is, err := numbers(job.records[0], n)
		if err != nil {
			return nil, err
		}
		more, err := setting(file, outside.records[0], "root_ids."+kind, path{rootIDs, n}, is...)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	return all, nil
}

func ofTree(file string, i imageFile, _ *rand.Rand) (all []Mutation, err error) {
	const pid, threads = 1, 5
	for at, record := range i.records {
		tids, err := numbers(record, threads)
		if err != nil {
			return nil, err
		}
		who, err := numbers(record, pid)
		if err != nil {
			return nil, err
		}
		for n := range tids {
			all = append(all, Mutation{File: file, at: at, Field: "threads", To: fmt.Sprintf("without %d of process %d", tids[n], who[0]), edit: func(r []byte) ([]byte, error) { return without(r, n, threads) }})
		}
		all = append(all, Mutation{File: file, at: at, Field: "threads", To: fmt.Sprintf("one of process %d twice", who[0]), edit: func(r []byte) ([]byte, error) { return with(r, append(tids, tids[0]), threads) }})
	}
	return all, nil
}

// OneOfEach keeps the first mutation of each field.
func OneOfEach(all []Mutation) (few []Mutation) {
	seen := map[string]bool{}
	for _, m := range all {
		if !seen[m.Field] {
			seen[m.Field] = true
			few = append(few, m)
		}
	}
	slices.SortFunc(few, func(a, b Mutation) int { return strings.Compare(a.Field, b.Field) })
	return few
}
