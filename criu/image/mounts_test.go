package image

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/fdinfo"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mnt"
	skunix "github.com/checkpoint-restore/go-criu/v7/crit/images/sk-unix"
	"google.golang.org/protobuf/proto"
)

func writeRecords(t *testing.T, dir, name string, magic uint32, list ...proto.Message) {
	t.Helper()
	img := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, magicCommon), magic)
	for _, m := range list {
		msg, err := proto.MarshalOptions{AllowPartial: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		img = appendRecord(img, msg)
	}
	if err := os.WriteFile(filepath.Join(dir, name), img, 0o600); err != nil {
		t.Fatal(err)
	}
}

// mounts writes the images of two mount namespaces. The first is PID 1's.
func mounts(t *testing.T, own, nested []proto.Message) (dir string) {
	t.Helper()
	dir = t.TempDir()
	one := proto.Uint32(1)
	writeRecords(t, dir, "ids-1.img", magicIDs, &criu_core.TaskKobjIdsEntry{MntNsId: proto.Uint32(7), VmId: one, FilesId: one, FsId: one, SighandId: one})
	writeRecords(t, dir, "mountpoints-7.img", magicMounts, own...)
	writeRecords(t, dir, "mountpoints-8.img", magicMounts, nested...)
	return dir
}

func mountOf(id, parent, dev uint32, root, at, key string, shared uint32) proto.Message {
	n, s := uint32(0), ""
	m := &mnt.MntEntry{Fstype: &n, Flags: &n, Source: &s, Options: &s, MntId: &id, ParentMntId: &parent, RootDev: &dev, Root: &root, Mountpoint: &at, SharedId: &shared}
	if key != "" {
		m.ExtKey = &key
	}
	return m
}

func TestSocketsOfNestedMountNamespacesAreFoundWherePID1SeesThem(t *testing.T) {
	bound := func(id int32, name string) proto.Message {
		return &fdinfo.FileEntry{Type: fdinfo.FdTypes_UNIXSK.Enum(), Id: proto.Uint32(1), Usk: &skunix.UnixSkEntry{Name: []byte(name + "\x00"), MntId: &id}}
	}
	dir := mounts(t,
		[]proto.Message{mountOf(1, 0, 8, "/", "/", "", 0), mountOf(2, 1, 9, "/export", "/scratch", "s", 0)},
		[]proto.Message{mountOf(11, 0, 9, "/export/me", "/mnt", "", 0), mountOf(12, 11, 10, "/", "/mnt/own", "", 0), mountOf(13, 11, 8, "/", "/host", "", 0), mountOf(14, 11, 9, "/else", "/x", "", 0)})
	writeRecords(t, dir, filesName, magicFiles, bound(1, "/a"), bound(11, "/mnt/b"), bound(12, "/mnt/own/c"), bound(13, "/host/d"), bound(14, "/x/e"), bound(-1, "/f"))
	names, err := SocketNames(dir)
	if want := []string{"/a", "/scratch/me/b", "/d", "/f"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("got %q, %v", names, err)
	}
}

func TestAPartOfAMountFromOutsideIsBoundFromThatMount(t *testing.T) {
	dir := mounts(t,
		[]proto.Message{mountOf(2, 1, 8, "/var/io", "/dev/job", "job", 0), mountOf(1, 0, 8, "/", "/", "", 5), mountOf(3, 1, 8, "/scratch", "/scratch", "scratch", 0), mountOf(4, 1, 9, "/", "/t", "", 0),
			mountOf(5, 1, 8, "/scratch/a", "/mnt", "", 0), mountOf(6, 1, 8, "/home", "/home", "home", 0)},
		[]proto.Message{mountOf(11, 0, 8, "/", "/", "", 5), mountOf(12, 11, 8, "/var/io", "/dev/job", "", 0), mountOf(13, 11, 8, "/scratch/b", "/x", "", 5), mountOf(14, 11, 9, "/", "/t", "", 0), mountOf(15, 11, 8, "/var/iox", "/y", "", 0)})
	if err := TieBinds(dir); err != nil {
		t.Fatal(err)
	}
	spaces, err := mountSpacesOf(dir)
	if err != nil || len(spaces) != 2 {
		t.Fatal(spaces, err)
	}
	device := map[uint32]uint32{}
	for _, s := range spaces {
		for _, m := range s.mounts {
			device[m.GetMntId()] = m.GetRootDev()
		}
	}
	for _, c := range []struct {
		what   string
		mounts []uint32 // of one device
	}{
		{"the root, with what is of its group and what is nowhere else", []uint32{1, 11, 13, 15}}, {"the output", []uint32{2, 12}},
		{"a directory", []uint32{3, 5}}, {"what is the job's own", []uint32{4, 14}}, {"what nobody has bound", []uint32{6}},
	} {
		for id, dev := range device {
			if same := dev == device[c.mounts[0]]; same != slices.Contains(c.mounts, id) && !(c.mounts[0] == 6 || id == 6) {
				t.Errorf("%s: mount %d has device %#x, %d has %#x", c.what, id, dev, c.mounts[0], device[c.mounts[0]])
			}
		}
	}
	if device[1] != 8 || device[4] != 9 || device[6] != 8 {
		t.Errorf("devices of the node have changed: %v", device)
	}
	before, err := os.ReadFile(spaces[0].file)
	if err != nil {
		t.Fatal(err)
	}
	if err := TieBinds(dir); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(spaces[0].file); err != nil || !slices.Equal(before, after) {
		t.Errorf("a second time changes the images (%v)", err)
	}
}
