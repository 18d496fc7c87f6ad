package image

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/mnt"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/durable"
)

const (
	magicMounts    = 0x55563928
	maxMountsImage = 64 << 20
)

// mountSpace is what CRIU has saved of one mount namespace.
type mountSpace struct {
	file   string
	mounts []*mnt.MntEntry
}

func mountSpacesOf(dir string) (spaces []mountSpace, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "mountpoints-*.img"))
	for _, file := range files {
		s := mountSpace{file: file}
		err := eachMessage(file, magicMounts, maxMountsImage, func(record []byte) error {
			var e mnt.MntEntry
			s.mounts = append(s.mounts, &e)
			if err := proto.Unmarshal(record, &e); err != nil {
				return fmt.Errorf("%w: %w", ErrFormat, err)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		spaces = append(spaces, s)
	}
	return spaces, err
}

// ownMountSpace is the name of the image of PID 1's mounts.
func ownMountSpace(dir string) (string, error) {
	var ids criu_core.TaskKobjIdsEntry
	err := readMessage(filepath.Join(dir, "ids-1.img"), magicIDs, maxSmallImage, &ids)
	return fmt.Sprintf("mountpoints-%d.img", ids.GetMntNsId()), err
}

// root is the mount that all others are on.
func (s mountSpace) root() *mnt.MntEntry {
	inside := map[uint32]bool{}
	for _, m := range s.mounts {
		inside[m.GetMntId()] = true
	}
	i := slices.IndexFunc(s.mounts, func(m *mnt.MntEntry) bool { return !inside[m.GetParentMntId()] })
	if i < 0 {
		return nil
	}
	return s.mounts[i]
}

func (s mountSpace) write() error {
	out := binary.LittleEndian.AppendUint32(nil, magicCommon)
	out = binary.LittleEndian.AppendUint32(out, magicMounts)
	for _, m := range s.mounts {
		record, err := proto.Marshal(m)
		if err != nil {
			return err
		}
		out = appendRecord(out, record)
	}
	return durable.WriteFile(s.file, out, filePerm)
}

// firstOwnDevice is a number that no device of the node has: the last major ones are not given out.
const firstOwnDevice = 0xfff << 20

// TieBinds has CRIU bind a part of a mount that comes from outside, the job's root or an external one,
// from that mount. CRIU takes any mount of the same device that shows the part. The directories of
// the node's disk that a job sees, its output among them, are of one device there, and elsewhere
// at other paths or of other devices. So each of these mounts gets a device number to itself, with
// all that is bound from it. The first keeps that of the node, by which watched files are found.
func TieBinds(dir string) error {
	spaces, err := mountSpacesOf(dir)
	if err != nil {
		return err
	}
	own, err := ownMountSpace(dir)
	if err != nil {
		return err
	}
	var outside []*mnt.MntEntry
	first := map[uint32]*mnt.MntEntry{} // of a device
	for _, s := range spaces {
		var root *mnt.MntEntry
		if filepath.Base(s.file) == own {
			root = s.root()
		}
		for _, m := range s.mounts {
			if m.GetExtKey() == "" && m != root {
				continue
			}
			outside = append(outside, m)
			if f := first[m.GetRootDev()]; f == nil || len(m.GetRoot()) < len(f.GetRoot()) {
				first[m.GetRootDev()] = m
			}
		}
	}
	device := map[*mnt.MntEntry]uint32{}
	for _, s := range spaces {
		for _, m := range s.mounts {
			from := boundFrom(outside, m)
			if from == nil || from == first[m.GetRootDev()] {
				continue
			}
			if device[from] == 0 {
				device[from] = firstOwnDevice + uint32(len(device)) + 1
			}
			device[m] = device[from]
		}
	}
	if len(device) == 0 {
		return nil
	}
	for m, number := range device {
		m.RootDev = &number
	}
	for _, s := range spaces {
		if err := s.write(); err != nil {
			return err
		}
	}
	return nil
}

// boundFrom is the mount from outside that a mount is a part of, nil for none: one of its group of
// shared mounts, or else the one that shows least beside the part.
func boundFrom(outside []*mnt.MntEntry, m *mnt.MntEntry) (best *mnt.MntEntry) {
	if slices.Contains(outside, m) {
		return nil
	}
	group := func(e *mnt.MntEntry) bool {
		g := e.GetSharedId()
		return g != 0 && (g == m.GetSharedId() || g == m.GetMasterId())
	}
	for _, e := range outside {
		if _, part := cutDir(m.GetRoot(), e.GetRoot()); !part || e.GetRootDev() != m.GetRootDev() {
			continue
		}
		if best == nil || group(e) && !group(best) || group(e) == group(best) && len(e.GetRoot()) > len(best.GetRoot()) {
			best = e
		}
	}
	return best
}
