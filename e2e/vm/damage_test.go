package vm

import (
	"context"
	"time"
)

// strike does the damage.
func strike(ctx context.Context, fault string, from, to *Node) error {
	switch fault {
	case "source":
		from.PowerOff()
	case "target":
		to.PowerOff()
	case "pause source":
		return from.Pause(ctx)
	case "pause target":
		return to.Pause(ctx)
	default:
		to.Cut()
	}
	return nil
}

// cutFor is how long a link stays cut or a machine paused: longer than what TCP makes
// up for unnoticed.
const cutFor = 5 * time.Second

// repair undoes the damage.
func repair(ctx context.Context, fault string, from, to *Node) error {
	switch fault {
	case "source":
		return from.Restart(ctx)
	case "target":
		return to.Restart(ctx)
	case "pause source":
		return goOn(ctx, from)
	case "pause target":
		return goOn(ctx, to)
	case "link":
		//house:allow time.Sleep: so long the cut lasts
		time.Sleep(cutFor)
		to.Mend()
	}
	return nil
}

// goOn ends a pause. The machine's wall clock did not see it.
func goOn(ctx context.Context, n *Node) error {
	//house:allow time.Sleep: so long the cut lasts
	time.Sleep(cutFor)
	if err := n.Resume(ctx); err != nil {
		return err
	}
	return n.SetClock(ctx, 0)
}
