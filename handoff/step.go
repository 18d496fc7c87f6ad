package handoff

import (
	"errors"
	"fmt"
	"slices"
)

// Event is what a node learns.
type Event string

// Events of the source.
const (
	EventStart        Event = "start"
	EventPeerPrepared Event = "peer prepared" // everything is there, and its copy is parked
	EventFail         Event = "fail"          // anything went wrong before the commit point, or the move was cancelled
	EventThawed       Event = "thawed"
	EventPeerRuns     Event = "peer runs"
	EventPeerDropped  Event = "peer dropped" // proven by the peer's record: it never ran the job
	EventRescue       Event = "rescue"       // the frozen job died with this node's last boot, the peer's copy lives
	EventLost         Event = "lost"         // the frozen job died with this node's last boot, and the peer has no copy
	EventPeerTook     Event = "peer took"    // an operator let the peer's copy run before the commit point
)

// Events of the target.
const (
	EventBegin   Event = "begin"
	EventPrepare Event = "prepare"
	EventCommit  Event = "commit"
	EventAbort   Event = "abort"
	EventResumed Event = "resumed"
	EventGone    Event = "gone" // the copy is proven to be gone without having run
	EventCut     Event = "cut"  // the connection broke
)

// Events of both. EventLost is one, too: the copy here went down with the node, and the other is gone.
const (
	EventRestart Event = "restart" // the agent starts, in the boot that the copy lives in
	EventReboot  Event = "reboot"  // the agent starts, in a later boot
	EventTake    Event = "take"    // the operator: the copy on this node is the job
	EventDrop    Event = "drop"    // the operator: the copy on this node is not the job
	EventYield   Event = "yield"   // the operator took the peer's copy: that is the job
)

// Action is something to do, in the order given. The first action that fails ends the list.
type Action string

// The actions. ActionJournal writes the new state; the state changes with it, not before.
const (
	ActionJournal     Action = "journal"
	ActionFreeze      Action = "freeze"
	ActionTransfer    Action = "transfer"
	ActionAskPrepare  Action = "ask peer to prepare"
	ActionCheckFrozen Action = "check that the job is still frozen"
	ActionSendCommit  Action = "tell peer to commit"
	ActionThaw        Action = "thaw"
	ActionSendAbort   Action = "tell peer to abort"
	ActionAskDrop     Action = "have peer drop its copy"
	ActionRelease     Action = "release"
	ActionAskOutcome  Action = "ask peer for the outcome"

	ActionAdmit       Action = "admit the epoch"
	ActionPark        Action = "restore and park"
	ActionCheckParked Action = "check that the copy is still parked"
	ActionCheckRuns   Action = "see whether the copy was resumed"
	ActionResume      Action = "resume"
	ActionDrop        Action = "drop"
	ActionEnd         Action = "end what may have run"
)

type situation struct {
	role  Role
	state State
	event Event
}

type rule struct {
	next    State
	actions []Action
}

// rules is the whole of the protocol; the model test runs it against every order of faults.
var rules = map[situation]rule{
	{RoleSource, StateNew, EventStart}: {StateFrozen, []Action{ActionJournal, ActionFreeze, ActionTransfer, ActionAskPrepare}},

	{RoleSource, StateFrozen, EventPeerPrepared}: {StateCommitted, []Action{ActionCheckFrozen, ActionJournal, ActionSendCommit}},
	{RoleSource, StateFrozen, EventFail}:         {StateAborting, []Action{ActionJournal, ActionThaw}},
	{RoleSource, StateFrozen, EventRestart}:      {StateAborting, []Action{ActionJournal, ActionAskDrop}}, // an operator may have let the peer's copy run meanwhile
	{RoleSource, StateFrozen, EventTake}:         {StateAborting, []Action{ActionCheckFrozen, ActionJournal, ActionThaw}},
	{RoleSource, StateFrozen, EventDrop}:         {StateReleased, []Action{ActionRelease, ActionJournal}},
	{RoleSource, StateFrozen, EventYield}:        {StateReleased, []Action{ActionRelease, ActionJournal}},
	{RoleSource, StateFrozen, EventReboot}:       {StateFrozen, []Action{ActionAskOutcome}},
	{RoleSource, StateFrozen, EventRescue}:       {StateCommitted, []Action{ActionJournal, ActionSendCommit}}, // a job that is gone needs no check
	{RoleSource, StateFrozen, EventLost}:         {StateAborted, []Action{ActionJournal, ActionSendAbort}},

	{RoleSource, StateAborting, EventThawed}:      {StateAborted, []Action{ActionJournal, ActionSendAbort}},
	{RoleSource, StateAborting, EventRestart}:     {StateAborting, []Action{ActionAskDrop}},
	{RoleSource, StateAborting, EventPeerDropped}: {StateAborting, []Action{ActionThaw}},
	{RoleSource, StateAborting, EventPeerTook}:    {StateCommitted, []Action{ActionJournal, ActionSendCommit}},
	{RoleSource, StateAborting, EventReboot}:      {StateAborted, []Action{ActionJournal, ActionSendAbort}},
	{RoleSource, StateAborting, EventTake}:        {StateAborting, []Action{ActionJournal, ActionThaw}},
	{RoleSource, StateAborting, EventYield}:       {StateReleased, []Action{ActionRelease, ActionJournal}},

	{RoleSource, StateCommitted, EventPeerRuns}:    {StateReleased, []Action{ActionRelease, ActionJournal}},
	{RoleSource, StateCommitted, EventPeerDropped}: {StateAborting, []Action{ActionJournal, ActionThaw}},
	{RoleSource, StateCommitted, EventLost}:        {StateAborted, []Action{ActionJournal, ActionSendAbort}},
	{RoleSource, StateCommitted, EventRestart}:     {StateCommitted, []Action{ActionSendCommit}},
	{RoleSource, StateCommitted, EventReboot}:      {StateCommitted, []Action{ActionSendCommit}},
	{RoleSource, StateCommitted, EventTake}:        {StateAborting, []Action{ActionCheckFrozen, ActionJournal, ActionThaw}},
	{RoleSource, StateCommitted, EventDrop}:        {StateReleased, []Action{ActionRelease, ActionJournal}},
	{RoleSource, StateCommitted, EventYield}:       {StateReleased, []Action{ActionRelease, ActionJournal}},

	{RoleSource, StateAborted, EventRestart}:  {StateAborted, nil},
	{RoleSource, StateAborted, EventReboot}:   {StateAborted, nil},
	{RoleSource, StateAborted, EventYield}:    {StateReleased, []Action{ActionRelease, ActionJournal}},
	{RoleSource, StateReleased, EventRestart}: {StateReleased, nil},
	{RoleSource, StateReleased, EventReboot}:  {StateReleased, nil},
	{RoleSource, StateReleased, EventYield}:   {StateReleased, nil},

	{RoleTarget, StateNew, EventBegin}: {StateReceiving, []Action{ActionAdmit, ActionJournal}},
	{RoleTarget, StateNew, EventAbort}: {StateDropped, nil},
	{RoleTarget, StateNew, EventCut}:   {StateDropped, nil},

	{RoleTarget, StateReceiving, EventPrepare}: {StatePrepared, []Action{ActionPark, ActionJournal}},
	{RoleTarget, StateReceiving, EventGone}:    {StateDropped, []Action{ActionDrop, ActionJournal}},
	{RoleTarget, StateReceiving, EventCut}:     {StateDropped, []Action{ActionDrop, ActionJournal}},
	{RoleTarget, StateReceiving, EventAbort}:   {StateDropped, []Action{ActionDrop, ActionJournal}},
	{RoleTarget, StateReceiving, EventRestart}: {StateDropped, []Action{ActionDrop, ActionJournal}},
	{RoleTarget, StateReceiving, EventReboot}:  {StateDropped, []Action{ActionDrop, ActionJournal}},
	{RoleTarget, StateReceiving, EventYield}:   {StateDropped, []Action{ActionDrop, ActionJournal}},

	{RoleTarget, StatePrepared, EventPrepare}: {StatePrepared, nil},
	{RoleTarget, StatePrepared, EventCommit}:  {StateCommitted, []Action{ActionCheckParked, ActionJournal, ActionResume}},
	{RoleTarget, StatePrepared, EventAbort}:   {StateDropped, []Action{ActionDrop, ActionJournal}},
	{RoleTarget, StatePrepared, EventGone}:    {StateDropped, []Action{ActionDrop, ActionJournal}},
	{RoleTarget, StatePrepared, EventReboot}:  {StateDropped, []Action{ActionDrop, ActionJournal}}, // gone with the boot
	{RoleTarget, StatePrepared, EventCut}:     {StatePrepared, []Action{ActionAskOutcome}},
	{RoleTarget, StatePrepared, EventRestart}: {StatePrepared, []Action{ActionAskOutcome}},
	{RoleTarget, StatePrepared, EventTake}:    {StateCommitted, []Action{ActionCheckParked, ActionJournal, ActionResume}},
	{RoleTarget, StatePrepared, EventDrop}:    {StateDropped, []Action{ActionDrop, ActionJournal}},
	{RoleTarget, StatePrepared, EventYield}:   {StateDropped, []Action{ActionDrop, ActionJournal}},

	{RoleTarget, StateCommitted, EventResumed}: {StateDone, []Action{ActionJournal}},
	{RoleTarget, StateCommitted, EventGone}:    {StateDropped, []Action{ActionEnd, ActionJournal}},
	{RoleTarget, StateCommitted, EventCommit}:  {StateCommitted, []Action{ActionResume}},
	{RoleTarget, StateCommitted, EventRestart}: {StateCommitted, []Action{ActionCheckRuns, ActionAskOutcome}}, // an operator may have taken the source's copy meanwhile
	{RoleTarget, StateCommitted, EventReboot}:  {StateCommitted, []Action{ActionAskOutcome}},
	{RoleTarget, StateCommitted, EventCut}:     {StateCommitted, []Action{ActionAskOutcome}},
	{RoleTarget, StateCommitted, EventTake}:    {StateCommitted, []Action{ActionResume}},
	{RoleTarget, StateCommitted, EventDrop}:    {StateDropped, []Action{ActionEnd, ActionJournal}},
	{RoleTarget, StateCommitted, EventLost}:    {StateDropped, []Action{ActionJournal}}, // the job's record here stays: it is lost
	{RoleTarget, StateCommitted, EventYield}:   {StateDropped, []Action{ActionEnd, ActionJournal}},

	{RoleTarget, StateDone, EventPrepare}: {StateDone, nil},
	{RoleTarget, StateDone, EventCommit}:  {StateDone, nil},
	{RoleTarget, StateDone, EventCut}:     {StateDone, nil},
	{RoleTarget, StateDone, EventRestart}: {StateDone, nil},
	{RoleTarget, StateDone, EventReboot}:  {StateDone, nil},
	{RoleTarget, StateDone, EventYield}:   {StateDropped, []Action{ActionEnd, ActionJournal}},

	{RoleTarget, StateDropped, EventAbort}:   {StateDropped, nil},
	{RoleTarget, StateDropped, EventGone}:    {StateDropped, nil},
	{RoleTarget, StateDropped, EventCut}:     {StateDropped, nil},
	{RoleTarget, StateDropped, EventRestart}: {StateDropped, nil},
	{RoleTarget, StateDropped, EventReboot}:  {StateDropped, nil},
	{RoleTarget, StateDropped, EventYield}:   {StateDropped, nil},
}

// Refusals of Step, to branch on. They are answers, not faults: each says what the node's record is.
var (
	ErrCommitted = errors.New("the move is committed on this node, and only goes forward")
	ErrDropped   = errors.New("this node has dropped its copy of the job, which never ran here")
	ErrNoRule    = errors.New("nothing to do about this in this state")
)

// Step says what a node in a state does about an event: the actions, and the state that it is in
// when they are done. It is pure. An event that the state has no rule for is refused with
// ErrCommitted, ErrDropped or ErrNoRule, and changes nothing.
func Step(role Role, state State, event Event) (State, []Action, error) {
	return step(rules, situation{role, state, event})
}

func step(table map[situation]rule, s situation) (State, []Action, error) {
	if r, ok := table[s]; ok {
		return r.next, slices.Clone(r.actions), nil
	}
	err := ErrNoRule
	switch {
	case s.role == RoleTarget && s.state == StateDropped:
		err = ErrDropped
	case s.role == RoleTarget && (s.state == StateCommitted || s.state == StateDone):
		err = ErrCommitted
	}
	return s.state, nil, fmt.Errorf("%s, %s, event %q: %w", s.role, s.state, s.event, err)
}
