package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	filelock "github.com/checkpoint-restore/go-criu/v7/crit/images/file-lock"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

func lockImage(t testing.TB, locks ...*filelock.FileLockEntry) []byte {
	t.Helper()
	b := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, magicCommon), magicLocks)
	for _, l := range locks {
		msg, err := proto.Marshal(l)
		if err != nil {
			t.Fatal(err)
		}
		b = appendRecord(b, msg)
	}
	return b
}

func lockEntry(kind LockKind, how uint32, pid, fd int32) *filelock.FileLockEntry {
	return &filelock.FileLockEntry{Flag: proto.Uint32(uint32(kind)), Type: proto.Uint32(how), Pid: proto.Int32(pid), Fd: proto.Int32(fd),
		Start: proto.Int64(10), Len: proto.Int64(5)}
}

func TestExclusiveLocksAreTakenOutOfTheImagesAndOthersStay(t *testing.T) {
	dir := t.TempDir()
	const lease = 8
	shared, leased := lockEntry(PosixLock, unix.F_RDLCK, 1, 3), lockEntry(lease, unix.F_WRLCK, 1, 4)
	all := lockImage(t, lockEntry(PosixLock, unix.F_WRLCK, 1, 5), shared, lockEntry(Flock, unix.F_WRLCK, 2, 6), leased, lockEntry(OpenLock, unix.F_WRLCK, 2, 7))
	if err := os.WriteFile(filepath.Join(dir, locksName), all, 0o600); err != nil {
		t.Fatal(err)
	}
	want := []FileLock{{PosixLock, 1, 5, 10, 5}, {Flock, 2, 6, 10, 5}, {OpenLock, 2, 7, 10, 5}}
	for range 2 { // a restore may be tried again
		got, err := TakeExclusiveLocks(dir)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("taken out: %+v, %v", got, err)
		}
		left, err := os.ReadFile(filepath.Join(dir, locksName))
		if err != nil || !bytes.Equal(left, lockImage(t, shared, leased)) {
			t.Errorf("left for CRIU: %x, %v", left, err)
		}
	}
	if got, err := TakeExclusiveLocks(t.TempDir()); err != nil || got != nil {
		t.Errorf("of a job without locks: %v, %v", got, err)
	}
}

func TestALockOfNothingIsRefused(t *testing.T) {
	for _, l := range []*filelock.FileLockEntry{lockEntry(PosixLock, unix.F_WRLCK, 0, 3), lockEntry(Flock, unix.F_WRLCK, 1, -1)} {
		if _, _, err := splitLocks(lockImage(t, l)); !errors.Is(err, ErrFormat) {
			t.Errorf("%v: %v", l, err)
		}
	}
}

func FuzzFileLocks(f *testing.F) {
	f.Add(lockImage(f, lockEntry(Flock, unix.F_WRLCK, 2, 6), lockEntry(PosixLock, unix.F_RDLCK, 1, 3)))
	f.Fuzz(func(t *testing.T, data []byte) {
		taken, left, err := splitLocks(data)
		if err != nil {
			return
		}
		if again, same, err := splitLocks(left); err != nil || len(again) > 0 || !bytes.Equal(same, left) {
			t.Errorf("of %d taken out, %v are left: %v", len(taken), again, err)
		}
	})
}
