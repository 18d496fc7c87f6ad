package server

import (
	"github.com/migrate-hpc/migrate/agent/caller"
	"github.com/migrate-hpc/migrate/agent/copies"
	"github.com/migrate-hpc/migrate/agent/launch"
	"github.com/migrate-hpc/migrate/agent/node"
	"github.com/migrate-hpc/migrate/agent/peer"
	"github.com/migrate-hpc/migrate/agent/source"
	"github.com/migrate-hpc/migrate/agent/target"
	"github.com/migrate-hpc/migrate/agent/transfer"
)

// Server answers users and other nodes, with the operations of a node.
type Server struct {
	*node.Node
	Transfers *transfer.Transfers
	Peers     *peer.Peers
	Launcher  *launch.Launcher
	Sources   *source.Sources
	Targets   *target.Targets
	Copies    *copies.Copies
	Arrivals  *transfer.Arrivals
	Recovery  *transfer.Recovery
	Resolver  *transfer.Resolver
	History   *transfer.History

	jobVerbs  *jobServer
	moveVerbs *moveServer

	bodies, looks, execs *caller.Share // of callers
}

// jobServer has the verbs that leave a job where it is.
type jobServer struct{ *Server }

// moveServer has the verbs that take a job elsewhere.
type moveServer struct{ *Server }
