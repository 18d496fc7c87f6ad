package pidmap

import (
	"errors"
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestAHoldIsOfTheProcessThatWasListed(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	end := func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	defer end()
	began, err := Began(pid)
	if err != nil {
		t.Fatal(err)
	}
	if ours, err := Began(os.Getpid()); err != nil || ours > began {
		t.Errorf("we began at %d (%v), our child at %d", ours, err, began)
	}
	h, err := Take(pid, began)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := h.Alive(); err != nil {
		t.Error(err)
	}
	if _, err := Take(pid, began-1); !errors.Is(err, unix.ESRCH) { // another one had the number before
		t.Errorf("of a process that began at another time: %v", err)
	}
	end()
	if err := h.Alive(); err != unix.ESRCH {
		t.Errorf("it has ended: %v", err)
	}
	if _, err := Take(pid, began); !errors.Is(err, unix.ESRCH) {
		t.Errorf("one that has ended: %v", err)
	}
}

func TestAListSaysWhenEachProcessBegan(t *testing.T) {
	testenv.NeedRoot(t)
	space, err := Namespace(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	list, err := Of([]int{os.Getpid()}, space)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	if want, err := Began(os.Getpid()); err != nil || list[0].Began != want {
		t.Errorf("%d, want %d (%v)", list[0].Began, want, err)
	}
}
