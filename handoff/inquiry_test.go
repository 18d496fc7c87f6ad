package handoff

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

var errAway = errors.New("no route to host")

// answering are nodes that say what the test wants; who is not among them is away.
type answering struct {
	mu      sync.Mutex
	nodes   map[string]Answer
	errs    map[string]error
	at      map[string]string // where a node can be reached; "" is anywhere
	refuses map[string]bool
	asked   []string
	granted []string
}

func (c *answering) Ask(_ context.Context, node string, addrs []string) (Answer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, node)
	s, ok := c.nodes[node]
	if want := c.at[node]; !ok || want != "" && !slices.Contains(addrs, want) {
		return s, errors.Join(c.errs[node], errAway)
	}
	s.Node = node
	return s, nil
}

func (c *answering) Grant(_ context.Context, node string, _ []string, _ int64, _ Grant) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.refuses[node] {
		return ErrStaleEpoch
	}
	c.granted = append(c.granted, node)
	return nil
}

func at(nodes ...string) (places []Place) {
	for _, n := range nodes {
		places = append(places, Place{Node: n})
	}
	return places
}

func TestInquiryAsksEachNodeOnceAndFollowsWhatItNames(t *testing.T) {
	c := &answering{nodes: map[string]Answer{
		"here": {}, "a": {Seen: 2, Epoch: 4, Next: at("b")}, "b": {Seen: 7, Epoch: 7, Next: at("c", "a")}, "c": {Seen: 5, Epoch: 5, Next: at("b")},
	}}
	q, err := Inquire(t.Context(), c, at("here", "a", "a"), at("never"), []string{"never"})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(c.asked)
	if got := strings.Join(c.asked, " "); got != "a b c here never" {
		t.Errorf("asked %s", got)
	}
	if e := q.Epoch(3); e != 8 || Line(e) != 0 {
		t.Errorf("epoch %d", e)
	}
	if err := q.Grant(t.Context(), Grant{Epoch: 8, Node: "here"}); err != nil || strings.Join(c.granted, " ") != "a b c" {
		t.Errorf("granted by %q, %v", c.granted, err)
	}
}

// A node whose record or fence was damaged, and that an operator has let forget it, names no other node.
func TestInquiryHearsBystandersIfTheyAnswer(t *testing.T) {
	c := &answering{nodes: map[string]Answer{"here": {}, "peer": {Alive: "it is running on peer"}}}
	var alive *AliveError
	if _, err := Inquire(t.Context(), c, at("here"), at("here", "away", "peer"), nil); !errors.As(err, &alive) || alive.Answer.Node != "peer" {
		t.Errorf("one that has the job: %v", err)
	}
	c.nodes["peer"] = Answer{Seen: 6}
	q, err := Inquire(t.Context(), c, at("here"), at("away", "peer"), nil)
	if err != nil || q.Epoch(0) != 7 || len(q.Dead()) > 0 {
		t.Errorf("nobody has it, and one is away: %+v, %v", q, err)
	}
	c.nodes["peer"] = Answer{Next: at("away")}
	var silent *SilentError
	if _, err := Inquire(t.Context(), c, at("here"), at("away", "peer"), nil); !errors.As(err, &silent) || silent.Nodes["away"] == nil {
		t.Errorf("one that is away, and of which another says that it knows: %v", err)
	}
}

func TestInquiryTellsOfAJobThatLivesAnywhere(t *testing.T) {
	c := &answering{nodes: map[string]Answer{"a": {Next: at("b", "gone")}, "b": {Next: at("c")}, "c": {Alive: "it is running on c"}}}
	var alive *AliveError
	if _, err := Inquire(t.Context(), c, at("a"), nil, nil); !errors.As(err, &alive) || alive.Answer.Node != "c" {
		t.Errorf("got %v", err)
	}
}

func TestInquiryNeedsEachNodeThatIsNotDeclaredDead(t *testing.T) {
	nodes := map[string]Answer{"here": {Epoch: 3}, "a": {Epoch: 3, Next: at("b")}}
	var silent *SilentError
	_, err := Inquire(t.Context(), &answering{nodes: nodes}, at("here", "a"), nil, []string{"another"})
	if !errors.As(err, &silent) || len(silent.Nodes) != 1 || silent.Nodes["b"] == nil {
		t.Fatalf("got %v", err)
	}
	q, err := Inquire(t.Context(), &answering{nodes: nodes}, at("here", "a"), nil, []string{"b"})
	if err != nil {
		t.Fatal(err)
	}
	if e := q.Epoch(1); !Supersedes(e, 3) || len(q.Dead()) != 1 {
		t.Errorf("epoch %d, dead %v", e, q.Dead())
	}
}

func TestInquiryPastADeadNodeNeedsTheBystandersToo(t *testing.T) {
	c := &answering{nodes: map[string]Answer{"here": {}, "peer": {Alive: "it is running on peer"}}}
	var alive *AliveError
	if _, err := Inquire(t.Context(), c, at("here", "writer"), at("peer"), []string{"writer"}); !errors.As(err, &alive) {
		t.Errorf("who knew that it went to peer is dead, and the answer is %v", err)
	}
	c = &answering{nodes: map[string]Answer{"here": {}}}
	var silent *SilentError
	if _, err := Inquire(t.Context(), c, at("here", "writer"), at("peer"), []string{"writer"}); !errors.As(err, &silent) || silent.Nodes["peer"] == nil {
		t.Errorf("got %v", err)
	}
}

func TestInquiryTakesNoNodeThatAnswersForDead(t *testing.T) {
	c := &answering{nodes: map[string]Answer{"here": {}}, errs: map[string]error{"a": ErrAnswers}}
	var silent *SilentError
	if _, err := Inquire(t.Context(), c, at("here", "a"), nil, []string{"a"}); !errors.As(err, &silent) {
		t.Errorf("got %v", err)
	}
	c.errs = nil
	q, err := Inquire(t.Context(), c, at("here", "a"), nil, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.StillSilent(t.Context()); err != nil {
		t.Error(err)
	}
	c.errs = map[string]error{"a": ErrAnswers}
	if err := q.StillSilent(t.Context()); err == nil {
		t.Error("it is back, and passes for dead")
	}
}

func TestInquiryTriesAnAddressThatComesUpLater(t *testing.T) {
	c := &answering{at: map[string]string{"b": "b:1"}, nodes: map[string]Answer{"a": {Next: []Place{{"b", "b:1"}}}, "b": {Alive: "yes"}}}
	var alive *AliveError
	if _, err := Inquire(t.Context(), c, []Place{{Node: "a"}, {"b", "wrong:1"}}, nil, nil); !errors.As(err, &alive) {
		t.Errorf("got %v", err)
	}
}

func TestInquiryOfTooManyNodesIsRefused(t *testing.T) {
	var many []Place
	for i := range mostAsked + 1 {
		many = append(many, Place{Node: "n" + strings.Repeat("x", i)})
	}
	c := &answering{}
	if _, err := Inquire(t.Context(), c, many, nil, nil); !errors.Is(err, ErrTooMany) || len(c.asked) > 0 {
		t.Errorf("%v, asked %d", err, len(c.asked))
	}
}

func TestGrantThatIsRefusedEndsTheAsking(t *testing.T) {
	c := &answering{nodes: map[string]Answer{"a": {}, "b": {}, "c": {}}, refuses: map[string]bool{"b": true}}
	q, err := Inquire(t.Context(), c, at("c", "b", "a"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Grant(t.Context(), Grant{Epoch: 1, Node: "here"}); !errors.Is(err, ErrStaleEpoch) || strings.Join(c.granted, " ") != "a" {
		t.Errorf("granted by %q, %v", c.granted, err)
	}
}

func TestGrantIsGivenOnceAndLasts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fence")
	if err := fence(t, path).Admit("j", 3); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		seen  int64
		g     Grant
		stale bool
	}{
		{2, Grant{Epoch: 4, Node: "b"}, true}, // it has moved since it was asked
		{3, Grant{Epoch: 3, Node: "b"}, true},
		{3, Grant{Epoch: 4, Node: "b"}, false},
		{3, Grant{Epoch: 4, Node: "b"}, false}, // the answer was lost
		{3, Grant{Epoch: 4, Node: "c"}, true},
		{3, Grant{Epoch: 5, Node: "c"}, true},
		{4, Grant{Epoch: 5, Node: "c"}, false}, // who has asked b
		{3, Grant{Epoch: 4, Node: "b"}, true},
	} {
		if err := fence(t, path).Grant("j", c.seen, c.g); errors.Is(err, ErrStaleEpoch) != c.stale || (err != nil) != c.stale {
			t.Errorf("%+v: %v", c, err)
		}
	}
	f := fence(t, path)
	if g, _ := f.Granted("j"); g.Node != "c" || f.Highest("j") != 5 {
		t.Errorf("granted to %+v, highest %d", g, f.Highest("j"))
	}
	if f.Admit("j", 5) == nil {
		t.Error("an epoch that was granted is admitted")
	}
}

func TestDebtLastsUntilEachNodeHasHeard(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fence")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(fence(t, path).Owe("j", Debt{4, map[string]string{"a": "a:1", "b": ""}}))
	must(fence(t, path).Owe("j", Debt{5, map[string]string{"a": "a:1"}}))
	must(fence(t, path).Forgive("j", 5))
	must(fence(t, path).Paid("j", 4, "a", Place{"c", "c:1"}))
	must(fence(t, path).Paid("j", 4, "b"))
	if d := fence(t, path).Debts()["j"]; len(d) != 1 || len(d[0].Nodes) != 1 || d[0].Nodes["c"] != "c:1" {
		t.Errorf("owed: %+v", d)
	}
	must(fence(t, path).Paid("j", 4, "c"))
	if d := fence(t, path).Debts(); len(d) != 0 {
		t.Errorf("owed: %+v", d)
	}
}

func TestFenceOfANodeThatWentDownWaitsForItsPeers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fence")
	boot := func(boot string, want string, peers ...string) {
		t.Helper()
		f := fence(t, path)
		if err := f.Booted(boot, peers); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(f.Unheard(), " "); got != want {
			t.Errorf("has not heard %q, want %q", got, want)
		}
	}
	boot("one", "", "a", "b") // nothing happened before
	boot("one", "", "a", "b")
	boot("two", "a b", "b", "a")
	if err := fence(t, path).Heard("a"); err != nil {
		t.Fatal(err)
	}
	boot("two", "b", "a", "b")
	boot("three", "a b", "a", "b")
	boot("three", "a", "a") // b was taken out
}

func TestLineIsAboveAllEpochsOfThoseBefore(t *testing.T) {
	for _, epoch := range []int64{0, 1, 1 << numberBits, nextLine(7, 0), nextLine(7, 1<<randomBits-1), nextLine(nextLine(0, 1<<randomBits-1), 0) + 99} {
		for _, random := range []int64{0, 1<<randomBits - 1} {
			if next := nextLine(epoch, random); !Supersedes(next, epoch) || Supersedes(epoch, next) || next < epoch {
				t.Errorf("%d, after %d", next, epoch)
			}
		}
	}
	if Supersedes(9, 8) {
		t.Error("a move begins a line")
	}
}
