package node

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// step is one thing that a soak does: a job moves on by so many nodes while a fault
// comes over the move, and another one moves at the same time.
type step struct {
	job, by, also int // also is the other job, or the same for none
	alsoBy        int
	trouble       fault
	live          bool
}

// soakSteps are the same for the same seed.
func soakSteps(seed uint64, count, jobs int) []step {
	random := rand.New(rand.NewPCG(seed, 0))
	cells := theMatrix()
	steps := make([]step, count)
	for i := range steps {
		steps[i] = step{job: random.IntN(jobs), by: 1 + random.IntN(2), also: random.IntN(jobs), alsoBy: 1 + random.IntN(2),
			trouble: cells[random.IntN(len(cells))], live: random.IntN(2) == 0}
	}
	return steps
}

func TestSoakOfASeedIsAlwaysTheSame(t *testing.T) {
	one, same, other := soakSteps(7, 50, 3), soakSteps(7, 80, 3), soakSteps(8, 50, 3)
	if !slices.Equal(one, same[:50]) {
		t.Error("the same seed gives other steps")
	}
	if slices.Equal(one, other) {
		t.Error("another seed gives the same steps")
	}
}

// soakNumber reads a setting of `make soak`.
func soakNumber(t *testing.T, name string, fallback uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return fallback
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// soakTime bounds a soak that says nothing else.
func soakTime(t *testing.T) time.Duration {
	t.Helper()
	d, err := time.ParseDuration(cmp.Or(os.Getenv("SOAK_TIME"), "30s"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestSoakJobsSurviveRandomFaults(t *testing.T) {
	t.Parallel()
	seed, count := soakNumber(t, "SOAK_SEED", 1), int(soakNumber(t, "SOAK_COUNT", 12))
	most := soakTime(t)
	s := &soak{matrix: matrix{c: newCluster(t, 3, withFaults)}, tally: map[string]map[string]int{}}
	for range 3 {
		s.place(nil)
	}
	began := time.Now()
	fmt.Printf("soak: seed %d, at most %d steps and %v\n", seed, count, most)
	for i, x := range soakSteps(seed, count, len(s.jobs)) {
		if time.Since(began) > most || t.Failed() {
			break
		}
		fmt.Printf("%5.1fs step %d: %s\n", time.Since(began).Seconds(), i+1, s.do(x))
	}
	s.table()
	for _, k := range s.jobs {
		k.j.state(k.on)
		k.j.finish(k.on)
	}
}

// soak is a few jobs on three nodes.
type soak struct {
	matrix
	jobs  []*kept
	tally map[string]map[string]int // harm → ending → times
}

// kept is a job and where it is.
type kept struct {
	j  *job
	on *node
}

// place starts a job, in place of one that is lost if there is one.
func (s *soak) place(lost *kept) *kept {
	s.c.t.Helper()
	k := lost
	if k == nil {
		k = &kept{}
		s.jobs = append(s.jobs, k)
	}
	k.on = s.c.nodes[len(s.jobs)%len(s.c.nodes)]
	k.j = k.on.oracle("--mem", "16", "--tree", "1", "--sysv")
	return k
}

func (s *soak) onwards(from *node, by int) *node {
	return s.c.nodes[(slices.Index(s.c.nodes, from)+by)%len(s.c.nodes)]
}

// do takes one step and returns what came of it, in one line.
func (s *soak) do(x step) string {
	s.c.t.Helper()
	k, other := s.jobs[x.job], s.jobs[x.also]
	from, to := k.on, s.onwards(k.on, x.by)
	s.flags = []string{"--stop-copy"}
	if x.live {
		s.flags = nil
	}
	var beside *process
	if other != k && x.trouble.harm != killCRIU && x.trouble.harm != killShim { // those are for one job
		beside = spawn(s.c.t, 3*limit, nil, shared.migrate, "--socket", other.on.socket(), "move", other.j.id, s.onwards(other.on, x.alsoBy).name)
	}
	s.j = k.j
	r := s.inject(x.trouble, from, to)
	ending := ""
	if on := s.fate(x.trouble, from, to); on == nil {
		ending = "lost with its shim"
		s.place(k)
	} else {
		wantOutcome(s.c.t, r, on, from)
		k.on, ending = on, map[bool]string{true: "stayed", false: "moved"}[on == from]
	}
	line := fmt.Sprintf("job %d, %s to %s: %s; %s, status %d after %.1f s", x.job, short(from), short(to), x.trouble, ending, r.code, r.took.Seconds())
	if beside != nil {
		was := other.on
		line += fmt.Sprintf("; beside it job %d %s", x.also, s.besideIt(other, beside))
		line += map[bool]string{true: " stayed", false: " moved"}[other.on == was]
	}
	for _, each := range s.jobs {
		each.j.ticks(each.on, 10)
	}
	if s.tally[x.trouble.harm] == nil {
		s.tally[x.trouble.harm] = map[string]int{}
	}
	s.tally[x.trouble.harm][ending]++
	return line
}

// besideIt says where the job went that moved at the same time.
func (s *soak) besideIt(other *kept, beside *process) string {
	s.c.t.Helper()
	r := beside.wait()
	on := other.j.settled(s.c)
	wantOutcome(s.c.t, r, on, other.on)
	line := fmt.Sprintf("(%s, status %d)", short(other.on), r.code)
	other.on = on
	return line
}

// short is a node's name without the cluster's tag.
func short(n *node) string {
	name, _, _ := strings.Cut(n.name, "-")
	return name
}

// table sums up, one line for each harm.
func (s *soak) table() {
	endings := []string{"moved", "stayed", "lost with its shim"}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nharm\t"+strings.Join(endings, "\t"))
	for _, harm := range harms {
		line := harm
		for _, e := range endings {
			line += fmt.Sprintf("\t%d", s.tally[harm][e])
		}
		fmt.Fprintln(w, line)
	}
	if err := w.Flush(); err != nil {
		s.c.t.Error(err)
	}
}
