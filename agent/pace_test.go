package agent

import (
	"slices"
	"testing"
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
	if want := []int{19, 0, 19, 0}; !slices.Equal(levels, want) {
		t.Errorf("levels %v, want %v", levels, want)
	}
}
