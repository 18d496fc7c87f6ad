package store

import (
	"errors"
	"time"
)

// Claim says that a job was brought back from a checkpoint, where, and with which epoch.
// It lies beside what is sealed, so that every node which sees the checkpoint sees it. A
// claim is no proof of anything: it tells whom to ask whether the job lives.
type Claim struct {
	Node  string    `json:"node"`
	Addr  string    `json:"addr"` // host:port of its agent
	Epoch int64     `json:"epoch"`
	At    time.Time `json:"at"`
}

// ErrClaimed says that another restore is bringing the job back, or has since.
var ErrClaimed = errors.New("somebody else is bringing this job back")
