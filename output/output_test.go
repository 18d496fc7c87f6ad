package output

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestTheRuleEndsAJobForItsLimitOrForTheDisk(t *testing.T) {
	wide, short := Room{Free: 1 << 40, Total: 2 << 40}, Room{Free: 30 << 20, Total: 1 << 30}
	yes, no := func() bool { return true }, func() bool { return false }
	for name, c := range map[string]struct {
		limit, before, size int64
		room                Room
		biggest             func() bool
		why                 string
		keep                int64
	}{
		"within":                        {100, 50, 100, wide, yes, "", 100},
		"above":                         {100, 50, 101, wide, no, "output limit of 100 B", 100},
		"above without growing":         {100, 101, 101, wide, no, "output limit", 100},
		"no limit":                      {0, 0, 1 << 40, wide, yes, "", 1 << 40},
		"no room":                       {1 << 30, 1, 64 << 20, short, yes, "fills the disk", 64<<20 - (short.Floor() - short.Free)},
		"no room, and less than that":   {1 << 30, 1, 1000, short, yes, "fills the disk", 0},
		"no room, another user's":       {1 << 30, 1, 64 << 20, short, no, "", 64 << 20},
		"no room, but it does not grow": {1 << 30, 64 << 20, 64 << 20, short, yes, "", 64 << 20},
		"no room, no limit":             {0, 1, 64 << 20, short, yes, "fills the disk", 64<<20 - (short.Floor() - short.Free)},
	} {
		r := Rule{Limit: c.limit, last: c.before}
		why, keep := r.Look(c.size, c.room, c.biggest)
		if !strings.Contains(why, c.why) || (why == "") != (c.why == "") || keep != c.keep {
			t.Errorf("%s: %q, %d is kept; want %q, %d", name, why, keep, c.why, c.keep)
		}
	}
}

// The nearer the end the sooner the next look, and no look comes without a pause.
func TestLooksComeSoonerTheLessRoomThereIs(t *testing.T) {
	last := time.Hour
	for _, size := range []int64{0, 1 << 20, DefaultLimit / 2, DefaultLimit * 3 / 4, DefaultLimit - 1, DefaultLimit} {
		r := Rule{Limit: DefaultLimit, last: size}
		next := r.Next(Room{Free: 1 << 40, Total: 1 << 40})
		if next > last || next < soonest || next > latest {
			t.Errorf("with %d bytes: %v", size, next)
		}
		last = next
	}
	r := Rule{}
	if near, far := r.Next(Room{Free: 60 << 20, Total: 1 << 30}), r.Next(Room{Free: 1 << 40, Total: 1 << 40}); near >= far || far != latest {
		t.Errorf("by the room of the disk: %v and %v", near, far)
	}
}

func TestTheLargerFileIsCutFirst(t *testing.T) {
	type sizes = [len(Names)]int64
	for _, c := range []struct {
		of   sizes
		keep int64
		want sizes
	}{
		{sizes{10, 20}, 30, sizes{10, 20}},
		{sizes{10, 20}, 25, sizes{10, 15}},
		{sizes{20, 10}, 25, sizes{15, 10}},
		{sizes{10, 20}, 5, sizes{5, 0}},
		{sizes{10, 20}, 0, sizes{0, 0}},
		{sizes{0, 0}, 5, sizes{0, 0}},
	} {
		if got := Split(c.of, c.keep); got != c.want {
			t.Errorf("%v cut to %d: %v, want %v", c.of, c.keep, got, c.want)
		}
	}
}

func files(t *testing.T) (*Files, string) {
	t.Helper()
	dir := t.TempDir()
	f, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f, dir
}

func (f *Files) want(t *testing.T, want ...int64) {
	t.Helper()
	sizes, err := f.Sizes()
	if err != nil || !slices.Equal(sizes[:], want) {
		t.Errorf("sizes %v, %v; want %v", sizes, err, want)
	}
}

func TestWhatFilesTakeIsFoundHoweverItWasTaken(t *testing.T) {
	f, dir := files(t)
	f.want(t, 0, 0)
	out, err := os.Create(filepath.Join(dir, "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if _, err := out.WriteString("hello"); err != nil {
		t.Fatal(err)
	}
	f.want(t, 5, 0)
	const ahead = 8 << 20
	err = unix.Fallocate(int(out.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, ahead)
	if err == nil {
		if sizes, err := f.Sizes(); err != nil || sizes[0] < ahead {
			t.Errorf("with room taken ahead: %v, %v", sizes, err)
		}
		if err := f.Cut([len(Names)]int64{5, 0}); err != nil {
			t.Fatal(err)
		}
		f.want(t, 5, 0)
	} else if !errors.Is(err, unix.EOPNOTSUPP) {
		t.Fatal(err)
	}
	if err := out.Truncate(1 << 35); err != nil {
		t.Fatal(err)
	}
	f.want(t, 1<<35, 0)
	if err := f.Cut([len(Names)]int64{3, 0}); err != nil {
		t.Fatal(err)
	}
	f.want(t, 3, 0)
	if text, err := os.ReadFile(out.Name()); err != nil || string(text) != "hel" {
		t.Errorf("%q, %v", text, err)
	}
	if err := os.Rename(dir, dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	f.want(t, 3, 0)
	if err := os.Symlink("/etc/passwd", filepath.Join(dir+"-moved", "stderr")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Sizes(); err == nil {
		t.Error("a link passes for output")
	}
}

// stored is a store with jobs of the users.
func stored(t *testing.T, limit int64, sizes map[uint32]int64) (*job.Store, map[uint32]job.ID) {
	t.Helper()
	store, err := job.OpenStore(filepath.Join(t.TempDir(), "jobs"))
	if err != nil {
		t.Fatal(err)
	}
	ids := map[uint32]job.ID{}
	for uid, size := range sizes {
		id := job.NewID()
		ids[uid] = id
		rec := job.Record{ID: id, Spec: job.Spec{Args: []string{"x"}, UID: uid, OutputLimit: limit}, Created: time.Now()}
		if err := errors.Join(store.Create(rec), os.Mkdir(Dir(store, id), 0o755), os.WriteFile(filepath.Join(Dir(store, id), "stdout"), make([]byte, size), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return store, ids
}

func TestUsageIsByUserAndTrimsWhatIsOver(t *testing.T) {
	store, ids := stored(t, 100, map[uint32]int64{1: 50, 2: 150, 3: 150})
	u := &Usage{Store: store, Alive: func(id job.ID) bool { return id == ids[3] }}
	for range 2 { // the second time from memory
		all, err := u.ByUser()
		if err != nil || all[2].Output != 150 || all[2].Jobs != 1 || all[2].Alive != 0 || all[3].Alive != 1 || all[1].Records == 0 {
			t.Errorf("%+v, %v", all, err)
		}
	}
	for uid, want := range map[uint32]bool{1: false, 2: true, 3: true, 4: false} {
		if got, err := u.Biggest(uid); got != want || err != nil {
			t.Errorf("user %d keeps the most: %v, %v", uid, got, err)
		}
	}
	if cut, err := u.Trim(); err != nil || !slices.Equal(cut, []job.ID{ids[2]}) {
		t.Errorf("cut: %v, %v", cut, err)
	}
	if all, err := u.ByUser(); err != nil || all[2].Output != 100 || all[3].Output != 150 {
		t.Errorf("%+v, %v", all, err)
	}
	if err := store.Remove(ids[2]); err != nil {
		t.Fatal(err)
	}
	if all, err := u.ByUser(); err != nil || all[2].Jobs != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// What has lost its name and is written on takes room that no list of files shows.
func TestOutputThatSomebodyWritesToKeepsItsName(t *testing.T) {
	if os.Geteuid() != 0 {
		const why = "not root: files are taken from their user"
		testenv.Missing(t, "%s", why)
	}
	store, ids := stored(t, 100, map[uint32]int64{1: 50})
	dir := Dir(store, ids[1])
	path := filepath.Join(dir, "stdout")
	if err := os.Chown(path, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	open, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := Seal(dir); !errors.Is(err, ErrHeld) {
		t.Errorf("with a writer: %v", err)
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Seal(dir); err != nil {
		t.Error(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o600 {
		t.Errorf("it can be opened anew: uid %d, mode %o, %v", st.Uid, st.Mode, err)
	}
	if err := Seal(filepath.Join(dir, "none")); err != nil {
		t.Errorf("of a job without output: %v", err)
	}
}
