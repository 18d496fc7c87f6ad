package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Start starts a program that ends with the test, and waits until it has said "ready".
func Start(t testing.TB, cmd *exec.Cmd) (pid int) {
	t.Helper()
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	var word string
	if _, err := fmt.Fscan(out, &word); err != nil || word != "ready" {
		t.Fatalf("%s says %q before it is ready: %v", cmd, word, err)
	}
	return cmd.Process.Pid
}
