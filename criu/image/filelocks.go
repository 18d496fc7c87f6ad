package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	filelock "github.com/checkpoint-restore/go-criu/v7/crit/images/file-lock"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/durable"
)

// FileLock is a lock on an open file, see fcntl(2) and flock(2).
type FileLock struct {
	Kind       LockKind
	PID        int // in the job: who has it, or one that has the open file
	FD         int
	Start, Len int64 // bytes; Len 0 is to the end of the file
}

// LockKind tells whose a lock is.
type LockKind uint32

const (
	PosixLock LockKind = 1 // of a process
	Flock     LockKind = 2 // of an open file, on all of it
	OpenLock  LockKind = 4 // of an open file, on a part
)

const (
	locksName     = "filelocks.img"
	allLocksName  = "migrate-filelocks.img" // as CRIU wrote it
	magicLocks    = 0x54323616              // FILE_LOCKS_MAGIC (criu/include/magic.h)
	maxLocksImage = 64 << 20                // bytes
)

// TakeExclusiveLocks takes the exclusive locks out of the images, so that CRIU does not wait for them,
// and returns them. A second call returns the same. A lease stays.
func TakeExclusiveLocks(dir string) (taken []FileLock, err error) {
	data, err := ReadBounded(filepath.Join(dir, allLocksName), maxLocksImage)
	if errors.Is(err, ErrMissing) {
		data, err = ReadBounded(filepath.Join(dir, locksName), maxLocksImage)
	}
	if errors.Is(err, ErrMissing) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	taken, left, err := splitLocks(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", locksName, err)
	}
	if len(taken) == 0 {
		return nil, nil
	}
	if err := durable.WriteFile(filepath.Join(dir, allLocksName), data, filePerm); err != nil {
		return nil, err
	}
	// In place: CRIU opens it as the owner that it has been given.
	//house:allow os.WriteFile: a call after one that was cut short makes it anew
	return taken, os.WriteFile(filepath.Join(dir, locksName), left, filePerm)
}

func splitLocks(data []byte) (taken []FileLock, left []byte, err error) {
	left = binary.LittleEndian.AppendUint32(nil, magicCommon)
	left = binary.LittleEndian.AppendUint32(left, magicLocks)
	rest, err := cutMagic(data, magicLocks)
	for err == nil && len(rest) > 0 {
		var record []byte
		if record, rest, err = cutRecord(rest); err != nil {
			break
		}
		var e filelock.FileLockEntry
		if err := proto.Unmarshal(record, &e); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrFormat, err)
		}
		l := FileLock{Kind: LockKind(e.GetFlag()), PID: int(e.GetPid()), FD: int(e.GetFd()), Start: e.GetStart(), Len: e.GetLen()}
		switch {
		case e.GetType() != unix.F_WRLCK || l.Kind != PosixLock && l.Kind != Flock && l.Kind != OpenLock:
			left = appendRecord(left, record)
		case l.PID <= 0 || l.FD < 0 || l.Start < 0 || l.Len < 0:
			return nil, nil, fmt.Errorf("%w: lock of process %d on descriptor %d, from %d for %d", ErrFormat, l.PID, l.FD, l.Start, l.Len)
		default:
			taken = append(taken, l)
		}
	}
	return taken, left, err
}
