package sockdiag

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/osthread"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestUnixSocketsOfAllTypesAreListedWithTheirPeers(t *testing.T) {
	testenv.NeedRoot(t)
	err := osthread.Throwaway(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		peers := map[uint32]uint32{}
		for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM, unix.SOCK_SEQPACKET, unix.SOCK_STREAM} {
			ends, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				return err
			}
			var inodes [2]uint32
			for i, fd := range ends {
				defer unix.Close(fd)
				var st unix.Stat_t
				if err := unix.Fstat(fd, &st); err != nil {
					return err
				}
				inodes[i] = uint32(st.Ino)
			}
			peers[inodes[0]], peers[inodes[1]] = inodes[1], inodes[0]
		}
		list, err := Unix()
		for _, s := range list {
			if peers[s.Inode] != s.Peer {
				t.Errorf("socket %d has the peer %d instead of %d", s.Inode, s.Peer, peers[s.Inode])
			}
			delete(peers, s.Inode)
		}
		if len(peers) > 0 {
			t.Errorf("not listed: %v", peers)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
