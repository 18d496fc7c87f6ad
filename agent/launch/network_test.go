package launch

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/agent/node/nodetest"
	"github.com/migrate-hpc/migrate/job"
)

func TestAddressGoesToOneOfManyThatAskAtOnce(t *testing.T) {
	a := &Launcher{Node: nodetest.New(t)}
	nodetest.AllowNetworks(t, a.Node, "br0=203.0.113.0/24")
	const many = 20
	var all sync.WaitGroup
	answers := make(chan error, many)
	for range many {
		all.Go(func() {
			rec := nodetest.Bridged("203.0.113.7/24")
			answers <- a.ClaimAddress(rec, func() error { return a.Jobs.Create(rec) })
		})
	}
	all.Wait()
	close(answers)
	given := 0
	for err := range answers {
		if err == nil {
			given++
		} else if nodetest.CodeOf(err) != api.CodeRefused {
			t.Errorf("got %v", err)
		}
	}
	if given != 1 {
		t.Errorf("%d jobs have the address", given)
	}
}

func TestBridgeThatIsMissingIsNamedWithWhatMakesIt(t *testing.T) {
	err := probe(t.Context(), job.Network{Mode: "nobridge", Address: "203.0.113.7/24", MAC: NewMAC()})
	var told *api.Error
	if !errors.As(err, &told) || told.Code != api.CodeRefused || !strings.Contains(told.Message, "nobridge") || !strings.Contains(told.Hint, "ip link add nobridge") {
		t.Errorf("%v", err)
	}
}
