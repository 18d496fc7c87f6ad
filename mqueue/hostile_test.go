package mqueue

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// otherwise starts a PID 1 that has arranged its /dev/mqueue by itself.
func otherwise(t *testing.T, script string) int {
	t.Helper()
	cmd := exec.Command("sh", "-ec", "mount --make-rprivate /; "+script+"; echo ready; exec sleep 60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWIPC | unix.CLONE_NEWNS}
	return testenv.Start(t, cmd)
}

func TestNothingButQueuesIsOpenedWhateverAJobHasMadeOfItsDirectory(t *testing.T) {
	inNamespaces(t) // or it is skipped
	trap := t.TempDir()
	if err := unix.Mkfifo(trap+"/q", 0o600); err != nil {
		t.Fatal(err)
	}
	for name, script := range map[string]string{
		"a FIFO":              "mkdir -p /dev/mqueue; mount -t tmpfs none /dev/mqueue; mkfifo /dev/mqueue/q",
		"a directory of root": "mkdir -p /dev/mqueue; mount --bind " + trap + " /dev/mqueue",
		"a link":              "mount -t tmpfs none /dev; ln -s " + trap + " /dev/mqueue",
		"a link above":        "mount -t tmpfs none /srv; mkdir /srv/mqueue; mkfifo /srv/mqueue/q; mount --bind /srv /dev; mount -t tmpfs none /mnt; ln -s " + trap + " /mnt/mqueue; mount --move /mnt /dev",
	} {
		t.Run(name, func(t *testing.T) {
			pid := otherwise(t, script)
			done := make(chan error, 1)
			go func() {
				found, err := Notified(pid)
				queues, err2 := Save(pid, nil)
				if found != "" || len(queues) > 0 {
					err = fmt.Errorf("found %q, %v", found, queues)
				}
				done <- errors.Join(err, err2, ignoreMissing(PutBack(pid, Queue{Name: "q", MaxMessages: 1, MessageSize: 1})))
			}()
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("it hangs")
			}
		})
	}
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("put back where no queue is: %w", err)
}

func TestAQueueThatOthersFeedDoesNotHoldUpTheFreeze(t *testing.T) {
	pid := inNamespaces(t)
	if err := Make(pid, sample); err != nil {
		t.Fatal(err)
	}
	dir, _, err := list(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	fd, err := open(dir, "full", unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	// It holds more than it can: as it does for who takes out while another puts in.
	q := Queue{Name: "full", MaxMessages: 2, MessageSize: 64}
	if err := q.drain(fd); !errors.Is(err, errFed) {
		t.Errorf("got %v after %d messages", err, len(q.Messages))
	}
}
