package vm

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

// Of testdata/mpi/ring.c.
const (
	ranks     = 4
	ringCells = 4096
	sumEvery  = 100
)

// mpirun starts four ranks that talk to each other by TCP and nothing else.
var mpirun = strings.Fields("mpirun -np 4 --map-by :OVERSUBSCRIBE --mca pml ob1 --mca btl tcp,self --mca btl_tcp_if_include lo --mca prte_if_include lo")

func TestMoveOfAnOpenMPIJobKeepsItsResult(t *testing.T) {
	c := newCluster(t)
	program := filepath.Join(c.A.lab.Dir, "ring")
	compile(t, c.A.lab.image, program)
	for _, n := range c.Nodes() {
		if err := n.Put(t.Context(), program, "/usr/local/bin/ring", 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const enough = "/tmp/enough"
	j := c.launch(c.A, ada, append(append([]string{"-w", "/tmp", "--"}, mpirun...), "ring", enough)...)
	j.computed(c.A, 2)
	j.move(c.A, c.B)
	j.computed(c.B, j.computed(c.B, 0)+2)
	c.must(c.B, ada, "exec", j.id, "touch", enough)
	c.must(c.B, ada, "wait", j.id)
	t.Logf("%d sums", j.computed(c.B, 0))
	c.must(c.B, ada, "rm", j.id)
}

// computed waits until the job has printed so many sums, wants all that it has
// printed to be what one process computes, and returns how many these are.
func (j *job) computed(n *Node, least int) (got int) {
	j.c.t.Helper()
	j.c.eventually(func() error {
		lines := strings.SplitAfter(j.logs(n), "\n")
		lines = lines[:len(lines)-1]
		got = len(lines)
		for i, want := range sums(got) {
			if lines[i] != want {
				j.c.t.Fatalf("line %d is %q, want %q", i, lines[i], want)
			}
		}
		if got < least {
			return fmt.Errorf("%d sums of %d; stderr: %s", got, least, j.c.must(n, root, "logs", "--stderr", j.id))
		}
		return nil
	})
	return got
}

// sums is what ring.c prints first.
func sums(most int) (lines []string) {
	now, next := make([]uint64, ranks*ringCells), make([]uint64, ranks*ringCells)
	for i := range now {
		now[i] = uint64(i + 1)
	}
	for n := 1; n <= most*sumEvery; n++ {
		for i, self := range now {
			left, right := now[(i+len(now)-1)%len(now)], now[(i+1)%len(now)]
			x := self*6364136223846793005 + (left ^ right>>7) + 1442695040888963407
			next[i] = x ^ x>>29
		}
		now, next = next, now
		if n%sumEvery == 0 {
			lines = append(lines, fmt.Sprintf("step %d sum %016x\n", n, add(now)))
		}
	}
	return lines
}

// add returns the sum of all cells after it has gone into the first of every rank.
func add(cells []uint64) (sum uint64) {
	for _, cell := range cells {
		sum += cell
	}
	for i := 0; i < len(cells); i += ringCells {
		cells[i] ^= sum
	}
	return sum
}

// compile makes a program for the guest's Open MPI with the host's compiler.
func compile(t *testing.T, im Image, out string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "gcc", "-O2", "-Wall", "-Werror", "-I"+filepath.Join(im.mpi(), "include"),
		"testdata/mpi/ring.c", filepath.Join(im.mpi(), "libmpi.so"), "-Wl,--allow-shlib-undefined", "-o", out)
	text, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		testenv.Missing(t, "gcc is not installed: apt-get install gcc libc6-dev")
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, text)
	}
}
