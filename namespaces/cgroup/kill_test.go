package cgroup

import (
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnotherProcessOfTheSameNumberIsNotKilled(t *testing.T) {
	var others []*exec.Cmd
	for range 2 {
		cmd := exec.Command("sleep", "1000")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		others = append(others, cmd)
	}
	task, victim := others[0].Process.Pid, others[1].Process.Pid
	// The victim has the number of a task that had ended by the time that its number was used.
	_, err := KillTasks([]int{victim, task, 1 << 30}, func() ([]int, error) { return []int{task}, nil })
	if err != nil {
		t.Error(err)
	}
	if err := others[0].Wait(); err == nil {
		t.Error("the task lives")
	}
	if err := others[1].Process.Signal(unix.SIGTERM); err != nil {
		t.Errorf("the victim: %v", err)
	}
	_ = others[1].Wait() // by a signal
	if ws := others[1].ProcessState.Sys().(syscall.WaitStatus); ws.Signal() != unix.SIGTERM {
		t.Errorf("the victim has ended with %v", ws)
	}
}
