package demo

import (
	"fmt"
	"strings"
)

// report shows what was verified and what was measured.
func (d *demo) report(e Evidence, checks []Check) {
	s := d.screen
	s.heading(fmt.Sprintf("%d. What happened", len(e.Moves)+3))
	s.say("All of the job's output was held against what must be in it:")
	s.line("")
	s.table(checkRows(checks))
	s.line("")
	s.say("For the nodes it was another process each time; from inside its namespaces that cannot be seen:")
	s.line("")
	s.table(placementRows(e.Placements), 1, 2, 3, 4)
	s.line("")
	s.say("The offset to the node's clock lets the job's go on from where it stopped. It is fixed when the restore begins: of the downtime the job's clock counts only what comes after.")
	s.line("")
	s.table(moveRows(e.Moves), 1, 2, 3, 4)
	s.line("")
	s.say("The downtime lasts from the freeze on one node until the job runs on the other. What was sent is encrypted, and compressed where that pays.")
}

func (s *screen) table(rows [][]string, right ...int) {
	for _, l := range grid(rows, right...) {
		s.line(margin + "  " + l)
	}
}

func checkRows(checks []Check) [][]string {
	var rows [][]string
	for _, c := range checks {
		row := []string{"ok", c.What, c.Found, c.Means}
		if !c.OK {
			row[0], row[3] = "NO", ""
		}
		rows = append(rows, row)
	}
	return rows
}

func placementRows(stays []Placement) [][]string {
	rows := [][]string{{"on", "pid outside", "pid inside", "pid namespace", "clock offset"}}
	for _, s := range stays {
		ns := strings.TrimSuffix(strings.TrimPrefix(s.PidNamespace, "pid:["), "]")
		rows = append(rows, []string{s.Node, fmt.Sprint(s.PidOutside), fmt.Sprint(s.PidInside), ns, seconds(s.ClockOffset)})
	}
	return rows
}

func moveRows(moves []Move) [][]string {
	rows := [][]string{{"move", "downtime", "whole move", "memory read", "sent"}}
	for _, m := range moves {
		rows = append(rows, []string{m.From + " > " + m.To, seconds(m.Downtime), seconds(m.Took), mebibytes(m.Read), mebibytes(m.Sent)})
	}
	return rows
}
