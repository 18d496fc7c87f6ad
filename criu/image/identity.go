package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	criu_core "github.com/checkpoint-restore/go-criu/v7/crit/images/criu-core"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/inventory"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/pstree"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/seccomp"
	"github.com/checkpoint-restore/go-criu/v7/crit/images/userns"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/identity"
	"github.com/migrate-hpc/migrate/namespaces"
)

// identityName is the file among CRIU's images that holds the source's record of who the
// job's threads are, as package identity writes it. CRIU does not look at it.
const identityName = "migrate-identity.json"

// SetIdentity keeps the record among the job's images.
func SetIdentity(dir string, j identity.Job) error {
	data, err := identity.Encode(j)
	if err != nil {
		return err
	}
	//house:allow os.WriteFile: images are synced as a whole when they are sealed
	return os.WriteFile(filepath.Join(dir, identityName), data, filePerm)
}

// Identity reads what SetIdentity has kept. It wraps [ErrMissing] if there is nothing.
func Identity(dir string) (identity.Job, error) {
	data, err := ReadBounded(filepath.Join(dir, identityName), identity.MaxRecord)
	if err != nil {
		return identity.Job{}, err
	}
	return identity.Decode(data)
}

const (
	magicIDs       = 0x54432030
	magicInventory = 0x58313116
	magicUserNS    = 0x55474906
	magicSeccomp   = 0x64413049

	maxSmallImage   = 1 << 20
	maxSeccompImage = 256 << 20
)

// States of a task in its core image (compel/include/uapi/task-state.h).
const (
	taskAlive   = 1
	taskDead    = 2
	taskStopped = 3
)

// Saved is what CRIU will make of the job's threads by its images: with ids as the node will
// see them. An error that wraps [ErrFormat] says that the images are not of one job in
// namespaces of its own, or say in an outdated way what they say.
func Saved(dir string) (identity.Job, error) {
	s := saved{dir: dir, nests: map[int][2]string{}, job: identity.Job{Threads: map[identity.ID]identity.Thread{}}}
	if err := s.readOutside(); err != nil {
		return s.job, err
	}
	err := eachMessage(filepath.Join(dir, "pstree.img"), magicPstree, maxPstreeImage, func(record []byte) error {
		var e pstree.PstreeEntry
		if err := proto.Unmarshal(record, &e); err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		if err := s.task(&e); err != nil {
			return fmt.Errorf("process %d: %w", e.GetPid(), err)
		}
		return nil
	})
	s.job.Nested = identity.NestsOf(s.nests)
	if err == nil && s.root == nil {
		err = fmt.Errorf("pstree.img: %w: it has no process 1", ErrFormat)
	}
	return s.job, err
}

// saved is a look at images.
type saved struct {
	dir     string
	job     identity.Job
	nests   map[int][2]string           // process → numbers of its own mount and network namespace
	outside *criu_core.TaskKobjIdsEntry // the namespaces of whoever dumped
	root    *criu_core.TaskKobjIdsEntry // those of PID 1
	chains  []*seccomp.SeccompFilter    // nil: not read yet
}

// readOutside reads inventory.img, which alone has one magic number.
func (s *saved) readOutside() error {
	const name = "inventory.img"
	data, err := ReadBounded(filepath.Join(s.dir, name), maxSmallImage)
	if err != nil {
		return err
	}
	if len(data) < 4 || binary.LittleEndian.Uint32(data) != magicInventory {
		return fmt.Errorf("%s: %w: another magic number", name, ErrFormat)
	}
	record, _, err := cutRecord(data[4:])
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var e inventory.InventoryEntry
	if err := proto.Unmarshal(record, &e); err != nil {
		return fmt.Errorf("%s: %w: %w", name, ErrFormat, err)
	}
	if s.outside = e.GetRootIds(); s.outside == nil {
		return fmt.Errorf("%s: %w: it has no namespaces", name, ErrFormat)
	}
	return nil
}

func (s *saved) task(e *pstree.PstreeEntry) error {
	leader, err := readCore(s.corePath(e.GetPid()))
	if err != nil {
		return err
	}
	tc := leader.GetTc()
	if tc.GetTaskState() == taskDead {
		return nil // it never runs
	}
	if state := tc.GetTaskState(); state != taskAlive && state != taskStopped {
		return fmt.Errorf("%w: it is in state %d", ErrFormat, state)
	}
	if tc.OldSeccompMode != nil || tc.OldSeccompFilter != nil { // of CRIU before 3.13, and it counts more
		return fmt.Errorf("%w: its seccomp filters are in an outdated form", ErrFormat)
	}
	if err := s.namespaces(e); err != nil {
		return err
	}
	for _, tid := range e.GetThreads() {
		core, err := readCore(s.corePath(tid))
		if err != nil {
			return err
		}
		t, err := s.thread(core)
		if err != nil {
			return fmt.Errorf("thread %d: %w", tid, err)
		}
		id := identity.ID{PID: int(e.GetPid()), TID: int(tid)}
		if _, twice := s.job.Threads[id]; twice {
			return fmt.Errorf("thread %d: %w: it is there twice", tid, ErrFormat)
		}
		s.job.Threads[id] = t
	}
	if err := s.shareFilters(e, leader.GetThreadCore()); err != nil {
		return err
	}
	if _, led := s.job.Threads[identity.ID{PID: int(e.GetPid()), TID: int(e.GetPid())}]; !led {
		return fmt.Errorf("%w: it has no main thread", ErrFormat)
	}
	return nil
}

func (s *saved) corePath(tid uint32) string { return corePath(s.dir, tid) }

// kinds are the namespaces that a job has of its own and of which CRIU makes one wherever two
// numbers differ. Its network namespace can be one that it inherits, its cgroup namespace is.
func kinds(e *criu_core.TaskKobjIdsEntry) map[string]*uint32 {
	return map[string]*uint32{"pid": e.PidNsId, "ipc": e.IpcNsId, "uts": e.UtsNsId, "mnt": e.MntNsId, "time": e.TimeNsId,
		"user": e.UserNsId, "net": e.NetNsId, "cgroup": e.CgroupNsId}
}

// namespaces wants the task in those of PID 1 or in nested ones, and PID 1 in its own. PID 1 comes
// first: all others descend from it.
func (s *saved) namespaces(e *pstree.PstreeEntry) error {
	ids := &criu_core.TaskKobjIdsEntry{}
	if err := readMessage(filepath.Join(s.dir, fmt.Sprintf("ids-%d.img", e.GetPid())), magicIDs, maxSmallImage, ids); err != nil {
		return err
	}
	if s.root == nil {
		if e.GetPid() != 1 {
			return fmt.Errorf("%w: PID 1 does not come first", ErrFormat)
		}
		s.root = ids
		return s.own()
	}
	root, names := kinds(s.root), [2]string{}
	for kind, id := range kinds(ids) {
		if equal(id, root[kind]) {
			continue
		}
		at := slices.Index(namespaces.Nestable, kind)
		if at < 0 || id == nil {
			return fmt.Errorf("%w: it is in another %s namespace than PID 1", ErrFormat, kind)
		}
		names[at] = fmt.Sprint(*id)
	}
	s.nests[int(e.GetPid())] = names
	return nil
}

func (s *saved) own() error {
	outside := kinds(s.outside)
	for kind, id := range kinds(s.root) {
		switch kind {
		case "net", "cgroup":
			continue
		case "user":
			if equal(id, outside[kind]) {
				continue
			}
			if err := s.readUserNS(*id); err != nil {
				return err
			}
			continue
		}
		if id == nil || equal(id, outside[kind]) {
			return fmt.Errorf("%w: the job has no %s namespace of its own", ErrFormat, kind)
		}
	}
	return nil
}

func equal(a, b *uint32) bool {
	return a == nil && b == nil || a != nil && b != nil && *a == *b
}

func (s *saved) readUserNS(id uint32) error {
	var e userns.UsernsEntry
	if err := readMessage(filepath.Join(s.dir, fmt.Sprintf("userns-%d.img", id)), magicUserNS, maxSmallImage, &e); err != nil {
		return err
	}
	s.job.UserNS = &identity.UserNS{UIDs: extents(e.GetUidMap()), GIDs: extents(e.GetGidMap())}
	return nil
}

func extents(list []*userns.UidGidExtent) (maps []namespaces.IDMap) {
	for _, e := range list {
		maps = append(maps, namespaces.IDMap{Inside: e.GetFirst(), Outside: e.GetLowerFirst(), Count: e.GetCount()})
	}
	return identity.InOrder(maps)
}

// errUnmapped is of an id that is none in the job's user namespace.
var errUnmapped = errors.New("the id is not mapped")
