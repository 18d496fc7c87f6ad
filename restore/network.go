package restore

import (
	"fmt"
	"log/slog"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/logkey"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// lockNetwork keeps the sockets of a job that is being restored from each other, if it had
// connections. CRIU has each of them send what it had not sent yet, and its peer may be missing.
func (p *Parked) lockNetwork(init int) error {
	connected, err := image.HasConnections(p.plan.Images)
	if err != nil || !connected {
		return err
	}
	p.locked = true
	return network.Lock(init)
}

// connectNetwork opens the loopback of the job that is about to run, and connects its interface.
// All sockets exist, and CRIU is about to have them send again. CRIU has no answer yet: if we die
// before it has one, it kills the job, and no job runs behind a lock. After an error the job runs
// on without its network: this is its only copy.
func (p *Parked) connectNetwork(pid int, log *slog.Logger) {
	if p.locked {
		if err := network.Unlock(pid); err != nil {
			log.Error("the job runs, but its processes cannot reach each other by its own addresses", logkey.Err, err, logkey.Try, network.UnlockCommand(pid))
		}
	}
	i := p.plan.Interface
	if i == nil {
		return
	}
	if err := i.Connect(pid); err != nil {
		log.Error("the job runs, but its network may not reach it", logkey.Err, err, logkey.Try, fmt.Sprintf("ip link set %s master %s", i.Host, i.Bridge))
	}
}
