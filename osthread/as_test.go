package osthread

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestAUsersRightsAreThoseOfTheUserAndNoMore(t *testing.T) {
	testenv.NeedRoot(t)
	other := exec.Command("sleep", "60")
	other.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 2000, Gid: 2000}, Pdeathsig: syscall.SIGKILL}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer other.Wait()
	defer other.Process.Kill()
	past := fmt.Sprintf("/proc/%d/cwd/.", other.Process.Pid) // past all directories to where another user is
	err := As(User{UID: 1000, GID: 1001, Groups: []uint32{7, 9}}, func() error {
		status, err := os.ReadFile("/proc/thread-self/status")
		if err != nil {
			return err
		}
		for _, want := range []string{"Uid:\t0\t0\t0\t1000\n", "Gid:\t0\t0\t0\t1001\n", "Groups:\t7 9 \n", "CapEff:\t0000000000000000\n"} {
			if !strings.Contains(string(status), want) {
				t.Errorf("%q is missing in\n%s", want, status)
			}
		}
		_, err = os.Stat(past)
		return err
	})
	if !errors.Is(err, unix.EACCES) {
		t.Errorf("got %v", err)
	}
	if err := As(User{}, func() error { return os.Chdir(".") }); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(past); err != nil {
		t.Errorf("we are root no more: %v", err)
	}
}
