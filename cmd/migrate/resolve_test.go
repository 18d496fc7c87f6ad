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

func TestResolveExplainsAndAsksFirst(t *testing.T) {
	for _, tc := range []struct {
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
		{"--take", "yes\n", false, api.ExitCancelled, ""}, // without a terminal there is no question
	} {
		a := newFakeAgent(t)
		c, out, errs := newCLI(a)
		c.errTerminal, c.in = tc.terminal, strings.NewReader(tc.typed)
		code := c.execute(t.Context(), strings.Fields("resolve m0123456789abcdef "+tc.flags))
		if got := strings.Join(a.decided, " "); code != tc.exit || got != tc.decided {
			t.Errorf("%+v: exit %d, decided %q\n%s", tc, code, got, errs)
		}
		for _, want := range []string{"The job goes on.", "It does not run on node-b.", "node-b does not answer"} {
			if !strings.Contains(errs.String(), want) {
				t.Errorf("%+v: %q is missing in %q", tc, want, errs)
			}
		}
		if tc.exit == 0 && (!strings.Contains(out.String(), "job jabcdefghij is on node-a") || !strings.Contains(errs.String(), "node-b has not heard")) {
			t.Errorf("%+v: %s%s", tc, out, errs)
		}
		if tc.exit != 0 && !strings.Contains(errs.String(), "nothing was done") {
			t.Errorf("%+v: %s", tc, errs)
		}
	}
}
