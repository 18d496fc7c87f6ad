package vm

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Of testdata/mpi/ring.c.
const (
	ranks     = 4
	ringCells = 4096
	sumEvery  = 100
	ringSteps = 8000
)

// mpirun starts four ranks that talk to each other by TCP and nothing else.
var mpirun = strings.Fields("mpirun -np 4 --map-by :OVERSUBSCRIBE --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include lo --mca prte_if_include lo")

func TestAnOpenMPIJobComputesTheSameWhenItIsMoved(t *testing.T) {
	c := newCluster(t)
	program := filepath.Join(c.A.lab.Dir, "ring")
	compile(t, c.A.lab.image, program)
	for _, n := range c.Nodes() {
		if err := n.Put(t.Context(), program, "/usr/local/bin/ring", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	want := sums(ringSteps)
	j := c.launch(c.A, ada, append(append([]string{"-w", "/tmp", "--"}, mpirun...), "ring", fmt.Sprint(ringSteps))...)
	j.computed(c.A, want, 2)
	j.move(c.A, c.B)
	if n := j.computed(c.B, want, 0); n == len(want) {
		t.Error("it had ended before it was moved")
	}
	j.computed(c.B, want, len(want))
	c.must(c.B, ada, "wait", j.id)
	c.must(c.B, ada, "rm", j.id)
}

// computed waits until the job has printed so many sums, wants all that it has
// printed to be right, and returns how many these are.
func (j *job) computed(n *Node, want []string, least int) (got int) {
	j.c.t.Helper()
	j.c.eventually(func() error {
		lines := strings.SplitAfter(j.logs(n), "\n")
		got = len(lines) - 1
		for i, line := range lines[:got] {
			if i >= len(want) || line != want[i] {
				j.c.t.Fatalf("line %d is %q, want %q", i, line, want[i:min(i+1, len(want))])
			}
		}
		if got < least {
			return fmt.Errorf("%d sums of %d; stderr: %s", got, least, j.c.must(n, root, "logs", "--stderr", j.id))
		}
		return nil
	})
	return got
}

// sums is what ring.c prints, computed by one process.
func sums(steps int) (lines []string) {
	now, next := make([]uint64, ranks*ringCells), make([]uint64, ranks*ringCells)
	for i := range now {
		now[i] = uint64(i + 1)
	}
	for n := 1; n <= steps; n++ {
		left, self := now[len(now)-1], now[0]
		for i := range now {
			right := now[(i+1)%len(now)]
			x := self*6364136223846793005 + (left ^ right>>7) + 1442695040888963407
			next[i] = x ^ x>>29
			left, self = self, right
		}
		now, next = next, now
		if n%sumEvery != 0 {
			continue
		}
		var sum uint64
		for _, cell := range now {
			sum += cell
		}
		for i := 0; i < len(now); i += ringCells {
			now[i] ^= sum
		}
		lines = append(lines, fmt.Sprintf("step %d sum %016x\n", n, sum))
	}
	return lines
}

// compile makes a program for the guest's Open MPI with the host's compiler.
func compile(t *testing.T, im Image, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "gcc", "-O2", "-Wall", "-Werror", "-I"+filepath.Join(im.mpi(), "include"),
		"testdata/mpi/ring.c", filepath.Join(im.mpi(), "libmpi.so"), "-Wl,--allow-shlib-undefined", "-o", out)
	text, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skip("gcc is not installed: apt-get install gcc libc6-dev")
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, text)
	}
}
