package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
)

// decides answers for one move that an operator may decide.
func (a *fakeAgent) decides(w http.ResponseWriter, r *http.Request) {
	plan := api.ResolvePlan{Move: r.PathValue("move"), Job: "jabcdefghij", Node: "node-a", Peer: "node-b", State: "committed",
		Take: r.URL.Query().Get("take") == "true", Why: "node-b does not answer", Does: []string{"The job goes on."}, Vouch: []string{"It does not run on node-b."}}
	if r.Method == http.MethodPost {
		a.set(func() { a.decided = append(a.decided, r.URL.Query().Get("take")) })
		plan.Where, plan.PeerToTell = "on node-a", true
	}
	a.reply(w, plan)
}

func TestResolveSaysWhatItDoesAndAsksFirst(t *testing.T) {
	for _, c := range []struct {
		flags, typed string
		terminal     bool
		exit         int
		decided      string
	}{
		{"--take --yes", "", false, 0, "true"},
		{"--drop -y", "", false, 0, "false"},
		{"--take", "yes\n", true, 0, "true"},
		{"--take", "yes", true, 0, "true"},
		{"--take", "y\n", true, api.ExitCancelled, ""},
		{"--take", "", true, api.ExitCancelled, ""},
		{"--take", "yes\n", false, api.ExitCancelled, ""}, // nobody was asked
	} {
		a := newFakeAgent(t)
		s, out, errs := newShell(a)
		s.terminal, s.in = c.terminal, strings.NewReader(c.typed)
		code := s.execute(t.Context(), strings.Fields("resolve m0123456789abcdef "+c.flags))
		if got := strings.Join(a.decided, " "); code != c.exit || got != c.decided {
			t.Errorf("%+v: exit %d, decided %q\n%s", c, code, got, errs)
		}
		for _, want := range []string{"The job goes on.", "It does not run on node-b.", "node-b does not answer"} {
			if !strings.Contains(errs.String(), want) {
				t.Errorf("%+v: %q is missing in %q", c, want, errs)
			}
		}
		if c.exit == 0 && (!strings.Contains(out.String(), "job jabcdefghij is on node-a") || !strings.Contains(errs.String(), "node-b has not heard")) {
			t.Errorf("%+v: %s%s", c, out, errs)
		}
		if c.exit != 0 && !strings.Contains(errs.String(), "nothing was done") {
			t.Errorf("%+v: %s", c, errs)
		}
	}
}
