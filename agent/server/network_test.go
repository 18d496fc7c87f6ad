package server

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/testenv"
)

func TestNetworkRefusalNamesTheRuleToAskFor(t *testing.T) {
	testenv.NeedRoot(t)
	a := newAgent(t)
	me := caller.Caller{UID: 4000000, GID: 4000000, Pid: os.Getpid()} // without a name
	run := func() (int, string) {
		s := nodetest.Bridged("203.0.113.7/24").Spec
		s.UID, s.GID = 0, 0 // the caller's, by the agent
		body, err := json.Marshal(api.RunRequest{Spec: s})
		if err != nil {
			t.Fatal(err)
		}
		w := answer(a, me, httptest.NewRequest("POST", "/v1/jobs", strings.NewReader(string(body))))
		return w.Code, w.Body.String()
	}
	for _, flags := range [][]string{nil, {"br0=203.0.113.8/32"}, {"br0=203.0.113.0/24@1001"}, {"br1=203.0.113.0/24"}} {
		nodetest.AllowNetworks(t, a.Node, flags...)
		code, says := run()
		if code != http.StatusConflict || !strings.Contains(says, "--network br0=203.0.113.0/24@4000000") || !strings.Contains(says, caller.NotStarted) {
			t.Errorf("with %v: %d %s", flags, code, says)
		}
	}
	if left := testenv.Names(t, filepath.Dir(a.Jobs.Dir("x"))); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
