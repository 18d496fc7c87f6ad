package store

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/migrate-hpc/migrate/osthread"
)

// Store is a form of keeping checkpoints. What it does somewhere that is a user's, it does with
// that user's rights, and trusts nothing that it finds there.
type Store interface {
	// Create begins a checkpoint under a name that nothing has. move tells this attempt from all
	// others. Errors wrap ErrName if the form cannot have such a name.
	Create(name, move string, u osthread.User) (Draft, error)
	// Remove takes back what an earlier agent has begun, as Draft.Remove does.
	Remove(ref Ref, move string, u osthread.User) error
	// Open opens what has a name, and reads nothing yet. Errors wrap ErrName as those of Create.
	Open(name string, u osthread.User) (Checkpoint, error)
}

// ErrName says that a form of store cannot have a checkpoint of such a name.
var ErrName = errors.New("no name of a checkpoint")

// Ref is a checkpoint to be found again: by its name, and by what its form has to know besides.
// The journal keeps both.
type Ref struct {
	Name string          // as its user gave it
	Form json.RawMessage // an object that only the form reads; nil in a Ref that is to be shown only
}

func (r Ref) String() string { return r.Name }

// Draft is a checkpoint that is being written. It appears under its name when it is sealed.
type Draft interface {
	Ref() (Ref, error)
	// Lanes take what the checkpoint holds. Each has one writer.
	Lanes() []io.Writer
	// Written is how many bytes of the lanes have arrived. It may be called at any time.
	Written() int64
	// Shut keeps the user off, where the form can. It comes after the journal has the Ref.
	Shut()
	// Seal waits until the lanes are written, and signs what went through them. Without an error
	// the checkpoint is durable and has its name, and its user can restore it. The form fills in
	// Extra and Files of the manifest. It replaces nothing that has got the name meanwhile.
	Seal(m Manifest, sign Signer) error
	// GiveUp ends all waiting for a place that is away: Write and Seal fail. It never blocks.
	GiveUp()
	// Remove takes the checkpoint back, sealed or not, and leaves alone what another has put in
	// its place. Done twice it is done once. It waits for what writes, as Discard does.
	Remove() error
	// Discard ends the draft, and removes what was not sealed as far as it can.
	Discard()
}

// Checkpoint is one that is open for a restore. Its methods are called by one goroutine at a time.
type Checkpoint interface {
	// Manifest checks the signature first, then that all is there, and nothing else. From then on
	// no change of the place has an effect but that bytes are refused. It is called first and once.
	// Errors wrap ErrSignature, ErrVersion, ErrDigest or those of criu/image.
	Manifest(verify Verifier) (Manifest, error)
	// Lanes has the lanes read ahead, in the order of the manifest. Every byte is checked before it
	// comes out: a reader fails with ErrDigest or image.ErrSize otherwise.
	Lanes() (*Lanes, error)
	// Claims are in the order of their epochs. One that cannot be read is an error.
	Claims() ([]Claim, error)
	// Claim puts one in place, if the newest is still of the epoch after, 0 for none. Of several at
	// a time at most one succeeds, with whatever epochs. The others get ErrClaimed and leave nothing.
	Claim(c Claim, after int64) error
	// Release takes a claim back whose restore has failed. Done twice it is done once.
	Release(epoch int64) error
	// Close comes after Lanes.Wait.
	Close() error
}
