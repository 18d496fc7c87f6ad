package agent

import (
	"slices"
	"testing"

	"github.com/migrate-hpc/migrate/thread"
)

func TestTheAgentGivesWayUnlessAJobStandsStill(t *testing.T) {
	var levels []int
	p := &pace{set: func(nice int) error {
		levels = append(levels, nice)
		return nil
	}}
	first := p.warm()
	second := p.warm()
	first()
	first() // a second time is nothing
	frozen := p.urgent()
	second()
	third := p.warm()
	frozen()
	third()
	if want := []int{thread.Polite, 0, thread.Polite, 0}; !slices.Equal(levels, want) {
		t.Errorf("levels %v, want %v", levels, want)
	}
}
