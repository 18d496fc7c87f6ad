package identity

import (
	"errors"
	"maps"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/namespaces"
)

// plain is a thread of user 1000, who is in groups 4 and 27.
func plain() Thread {
	return Thread{UIDs: [4]uint32{1000, 1000, 1000, 1000}, GIDs: [4]uint32{100, 100, 100, 100}, Groups: []uint32{4, 27},
		Bounding: 0x1ffffffffff, NoNewPrivs: true, Seccomp: 2, Filters: 1, Securebits: Unknown}
}

func jobOf(threads ...Thread) Job {
	j := Job{Threads: map[ID]Thread{}}
	for i, t := range threads {
		j.Threads[ID{1, i + 1}] = t
	}
	return j
}

var plainRule = Rule{UID: 1000, GID: 100, Groups: []uint32{27, 4, 27}}

func TestAPlainUsersThreadIsThatUserAndNothingElse(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Thread)
		says   string // "" = allowed
	}{
		"as it is":                     {func(*Thread) {}, ""},
		"fewer filters":                {func(t *Thread) { t.Seccomp, t.Filters = 0, 0 }, ""},
		"a smaller bounding set":       {func(t *Thread) { t.Bounding = 0 }, ""},
		"securebits that restrict":     {func(t *Thread) { t.Securebits = 0x500 }, ""},
		"a uid":                        {func(t *Thread) { t.UIDs[0] = 0 }, "thread 2 of process 1 has the uid 0, and 1000 is allowed"},
		"an effective uid":             {func(t *Thread) { t.UIDs[1] = 0 }, "the effective uid 0"},
		"a saved uid":                  {func(t *Thread) { t.UIDs[2] = 0 }, "the saved uid 0"},
		"a uid for files":              {func(t *Thread) { t.UIDs[3] = 0 }, "the uid for files 0"},
		"a gid":                        {func(t *Thread) { t.GIDs[0] = 4 }, "the gid 4"},
		"an effective gid":             {func(t *Thread) { t.GIDs[1] = 4 }, "the effective gid 4"},
		"a saved gid":                  {func(t *Thread) { t.GIDs[2] = 4 }, "the saved gid 4"},
		"a gid for files":              {func(t *Thread) { t.GIDs[3] = 4 }, "the gid for files 4"},
		"a group more":                 {func(t *Thread) { t.Groups = []uint32{4, 6, 27} }, "the groups [4 6 27], and [4 27] is allowed"},
		"a group less":                 {func(t *Thread) { t.Groups = []uint32{4} }, "the groups [4]"}, // a mode of 0604 closes a file to a group
		"inheritable":                  {func(t *Thread) { t.Inheritable = 1 << 21 }, "the inheritable capabilities 0x200000"},
		"permitted":                    {func(t *Thread) { t.Permitted = 1 << 21 }, "the permitted capabilities"},
		"effective":                    {func(t *Thread) { t.Effective = 1 << 40 }, "the effective capabilities"},
		"ambient":                      {func(t *Thread) { t.Ambient = 1 }, "the ambient capabilities"},
		"new privileges":               {func(t *Thread) { t.NoNewPrivs = false }, "no_new_privs false"},
		"securebits":                   {func(t *Thread) { t.Securebits = 0x10 }, "the securebits 0x10"},
		"securebits, some of which do": {func(t *Thread) { t.Securebits = 0x510 }, "the securebits 0x510, and 0x500 is allowed"},
	} {
		changed := plain()
		c.change(&changed)
		err := plainRule.Check(jobOf(plain(), changed))
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
	j := jobOf(plain())
	j.UserNS = &UserNS{}
	if err := plainRule.Check(j); err == nil || !strings.Contains(err.Error(), "user namespace") {
		t.Errorf("in a user namespace: %v", err)
	}
}

func TestTheIdsOfRootsJobInAUserNamespaceAreThoseOfItsMaps(t *testing.T) {
	const base = 1 << 30
	maps, _ := namespaces.PrivateMaps(base, 0, 0, nil)
	rule := Rule{UserNS: true, UIDs: maps, GIDs: maps}
	inside := Thread{UIDs: [4]uint32{base + 1000, base, base + 65535, base}, GIDs: [4]uint32{base, base, base + 7, base}, Permitted: ^uint64(0), NoNewPrivs: true, Securebits: 0xff}
	ns := &UserNS{UIDs: maps, GIDs: maps}
	for name, c := range map[string]struct {
		ns     *UserNS
		change func(*Thread)
		says   string
	}{
		"as it is":              {ns, func(*Thread) {}, ""},
		"in the node's":         {nil, func(*Thread) {}, "as its user namespace the node's, and one of its own is allowed"},
		"root's uid":            {ns, func(t *Thread) { t.UIDs[2] = 0 }, "the saved uid 0"},
		"a user's":              {ns, func(t *Thread) { t.UIDs[0] = 1001 }, "the uid 1001"},
		"another range's":       {ns, func(t *Thread) { t.GIDs[3] = base + 65536 }, "the gid for files"},
		"a group of the node's": {ns, func(t *Thread) { t.Groups = []uint32{27} }, "the group 27"},
		"new privileges":        {ns, func(t *Thread) { t.NoNewPrivs = false }, "no_new_privs"},
		"root's id in the map":  {&UserNS{UIDs: []namespaces.IDMap{{Inside: 0, Outside: 0, Count: 65536}}, GIDs: maps}, func(*Thread) {}, "the uid map [0→0×65536]"},
		"another map of groups": {&UserNS{UIDs: maps}, func(*Thread) {}, "the gid map"},
		"a map that is longer":  {&UserNS{UIDs: append(InOrder(maps), namespaces.IDMap{Inside: 65536, Outside: 0, Count: 1}), GIDs: maps}, func(*Thread) {}, "the uid map"},
	} {
		changed := inside
		c.change(&changed)
		j := jobOf(changed)
		j.UserNS = c.ns
		err := rule.Check(j)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
}

// Whoever could set groups there could give up one that closes files to its members.
func TestAUsersJobInAUserNamespaceIsThatUserWithAllOfItsGroups(t *testing.T) {
	const base = 1 << 30
	uids, gids := namespaces.PrivateMaps(base, 1000, 1000, []uint32{27, 70000})
	rule := Rule{UID: 1000, GID: 1000, Groups: []uint32{27, 70000}, UserNS: true, UIDs: uids, GIDs: gids}
	own := [4]uint32{1000, 1000, 1000, 1000}
	for name, c := range map[string]struct {
		change func(*Thread)
		says   string
	}{
		"as it is":         {func(*Thread) {}, ""},
		"the root inside":  {func(t *Thread) { t.UIDs[1] = base }, "the effective uid"},
		"a gid inside":     {func(t *Thread) { t.GIDs[0] = base + 7 }, "the gid"},
		"a group less":     {func(t *Thread) { t.Groups = []uint32{27} }, "the groups [27]"},
		"setting groups":   {func(t *Thread) { t.Bounding |= 1 << unix.CAP_SETGID }, "the bounding capabilities"},
		"a capability":     {func(t *Thread) { t.Permitted = 1 << unix.CAP_SYS_ADMIN }, "the permitted capabilities"},
		"an inherited one": {func(t *Thread) { t.Inheritable = 1 }, "the inheritable capabilities"},
	} {
		changed := Thread{UIDs: own, GIDs: own, Groups: []uint32{27, 70000}, Bounding: (1<<41 - 1) &^ (1 << unix.CAP_SETGID), NoNewPrivs: true}
		c.change(&changed)
		j := jobOf(changed)
		j.UserNS = &UserNS{UIDs: InOrder([]namespaces.IDMap{uids[2], uids[0], uids[1]}), GIDs: InOrder(gids)}
		err := rule.Check(j)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
}

func TestNoSpecificationGivesTheNodesRootInAUserNamespace(t *testing.T) {
	maps, _ := namespaces.PrivateMaps(0, 1000, 1000, nil)
	j := jobOf()
	j.UserNS = &UserNS{UIDs: maps, GIDs: maps}
	if err := (Rule{UID: 1000, GID: 1000, UserNS: true, UIDs: maps, GIDs: maps}).Check(j); err == nil {
		t.Error("it was taken")
	}
}

func TestWhatHasArrivedIsWhatTheRecordSays(t *testing.T) {
	here := Kernel{Known: 0x1ffffffffff, Bounding: 0x1fffeffffff}
	for name, c := range map[string]struct {
		change func(*Thread)
		says   string
	}{
		"the same":                           {func(*Thread) {}, ""},
		"securebits, which nobody told":      {func(t *Thread) { t.Securebits = 7 }, ""},
		"filters, which nobody told":         {func(t *Thread) { t.Filters = Unknown }, ""},
		"without what nobody here has":       {func(t *Thread) { t.Bounding &^= 1 << 24 }, ""},
		"without what somebody here has":     {func(t *Thread) { t.Bounding &^= 1 << 23 }, "the bounding capabilities"},
		"one that the record has not":        {func(t *Thread) { t.Effective = 1 << 21 }, "the effective capabilities"},
		"one that this kernel does not have": {func(t *Thread) { t.Bounding |= 1 << 41 }, "the bounding capabilities"},
		"no filter":                          {func(t *Thread) { t.Seccomp = 0 }, "seccomp in mode 0, and 2 is allowed"},
		"a filter more":                      {func(t *Thread) { t.Filters++ }, "seccomp filters: 2, and 1 is allowed"},
		"another group":                      {func(t *Thread) { t.Groups = nil }, "the groups []"},
	} {
		changed := plain()
		c.change(&changed)
		err := Compare(jobOf(changed), jobOf(plain()), here)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v; want %q", name, err, c.says)
		}
	}
	newer := plain()
	newer.Bounding |= 1 << 41
	if err := Compare(jobOf(plain()), jobOf(newer), here); err != nil {
		t.Errorf("from a kernel with more capabilities: %v", err)
	}
	for name, c := range map[string]struct{ has, record Job }{
		"a thread more": {jobOf(plain(), plain()), jobOf(plain())},
		"a thread less": {jobOf(plain()), jobOf(plain(), plain())},
		"a nest more":   {Job{Nested: map[int]Nest{7: {1, 0}}}, Job{}},
		"a nest less":   {Job{}, Job{Nested: map[int]Nest{7: {0, 1}}}},
		"another nest":  {Job{Nested: map[int]Nest{7: {1, 0}, 8: {2, 0}}}, Job{Nested: map[int]Nest{7: {1, 0}, 8: {1, 0}}}},
		"a setgroups":   {Job{UserNS: &UserNS{Setgroups: "allow"}}, Job{UserNS: &UserNS{Setgroups: "deny"}}},
	} {
		var d Differences
		if err := Compare(c.has, c.record, here); !errors.As(err, &d) || len(d) != 1 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNestsAreNumberedByTheLowestProcessInEach(t *testing.T) {
	got := NestsOf(map[int][2]string{1: {"", ""}, 12: {"a", ""}, 9: {"b", "x"}, 30: {"b", ""}, 31: {"", "y"}})
	if want := (map[int]Nest{9: {1, 1}, 12: {2, 0}, 30: {1, 0}, 31: {0, 2}}); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	if got := NestsOf(map[int][2]string{1: {}}); got != nil {
		t.Errorf("%v", got)
	}
}

func TestOnlyARootsJobHasNamespacesInsideItsOwn(t *testing.T) {
	j := jobOf(plain())
	j.Nested = map[int]Nest{1: {1, 0}}
	if err := plainRule.Check(j); err == nil || !strings.Contains(err.Error(), "of its own making") {
		t.Errorf("a user's: %v", err)
	}
	if err := (Rule{}).Check(j); err != nil {
		t.Errorf("root's: %v", err)
	}
}

const goldenRecord = "testdata/record-1.json"

func golden() Job {
	maps, _ := namespaces.PrivateMaps(1<<30, 1000, 1000, nil)
	j := jobOf(plain(), plain(), Thread{UIDs: [4]uint32{1000, 1000, 1000, 1000}, Effective: 1, Securebits: 3, Filters: Unknown})
	j.UserNS = &UserNS{UIDs: maps, GIDs: maps[:1], Setgroups: "allow"}
	return j
}

func TestARecordIsReadAsItWasWritten(t *testing.T) {
	data, err := os.ReadFile(goldenRecord)
	if err != nil {
		t.Fatal(err)
	}
	if j, err := Decode(data); err != nil || !reflect.DeepEqual(j, golden()) {
		t.Errorf("%+v, %v", j, err)
	}
	nested := golden()
	nested.Nested = map[int]Nest{3: {1, 0}, 17: {1, 2}}
	data2, err := os.ReadFile("testdata/record-1-nested.json")
	if err != nil {
		t.Fatal(err)
	}
	if j, err := Decode(data2); err != nil || !reflect.DeepEqual(j, nested) {
		t.Errorf("%+v, %v", j, err)
	}
	if now, err := Encode(nested); err != nil || string(now) != strings.TrimSpace(string(data2)) {
		t.Errorf("it is written as %s, %v", now, err)
	}
	if now, err := Encode(golden()); err != nil || string(now) != strings.TrimSpace(string(data)) {
		t.Errorf("it is written as %s, %v", now, err)
	}
}

func TestRecordsThatCannotBeAreRefused(t *testing.T) {
	for _, data := range []string{
		``, `{}`, `{"format":2}`, `{"format":0}`, `[]`,
		`{"format":1,"identities":[],"threads":[[1,1,0]]}`,
		`{"format":1,"identities":[{}],"threads":[[1,1,-1]]}`,
		`{"format":1,"identities":[{}],"threads":[[0,1,0]]}`,
		`{"format":1,"identities":[{}],"threads":[[1,1,0],[1,1,0]]}`,
		`{"format":1,"identities":[{"groups":[2,1]}],"threads":[]}`,
	} {
		if j, err := Decode([]byte(data)); err == nil {
			t.Errorf("%s: %+v", data, j)
		}
	}
}

func FuzzDecode(f *testing.F) {
	data, err := os.ReadFile(goldenRecord)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		j, err := Decode(data)
		if err != nil {
			return
		}
		again, err := Encode(j)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := Decode(again); err != nil || Compare(back, j, AnyKernel) != nil {
			t.Errorf("%s is read as %+v, %v", data, back, err)
		}
	})
}

func TestAStatusThatIsNotWholeIsAnError(t *testing.T) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseStatus(string(text)); err != nil {
		t.Error(err)
	}
	for key := range needed {
		var without []string
		for line := range strings.Lines(string(text)) {
			if !strings.HasPrefix(line, key+":") {
				without = append(without, line)
			}
		}
		if _, err := parseStatus(strings.Join(without, "")); err == nil {
			t.Errorf("without %s it was taken", key)
		}
	}
}

func FuzzStatus(f *testing.F) {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Fuzz(func(t *testing.T, text string) {
		if st, err := parseStatus(text); err == nil && !st.ended && !strings.Contains(text, "NoNewPrivs:") {
			t.Errorf("%q is read as %+v", text, st)
		}
	})
}
