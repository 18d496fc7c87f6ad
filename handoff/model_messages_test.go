package handoff

func (m *model) sourceHears(w world, out []world) []world {
	has := func(x message) bool { return w.sent&x != 0 }
	on := func(ok bool, e Event) {
		if ok {
			out = m.event(w, RoleSource, e, out)
		}
	}
	on(w.src.state == StateNew, EventStart)
	lost := EventPeerDropped
	if w.src.reboot {
		lost = EventLost
	}
	switch w.src.waits {
	case "":
		again := EventRestart
		if w.src.reboot {
			again = EventReboot
		}
		on(w.src.state != StateNew && !w.src.state.Finished(), again)
	case ActionAskPrepare:
		on(has(msgPrepared), EventPeerPrepared)
		on(true, EventFail)
	case ActionSendCommit:
		on(has(msgRuns), EventPeerRuns)
		on(has(msgTargetDropped), lost)
		if !has(msgSourceAsks) {
			w.sent |= msgSourceAsks
			out = append(out, w)
		}
	case ActionAskOutcome:
		on(has(msgTargetHasCopy), EventRescue)
		on(has(msgTargetHasNone|msgTargetDropped), EventLost)
	case ActionAskDrop:
		on(has(msgTargetDropped), EventPeerDropped)
		on(has(msgTargetTook) && !w.src.took || has(msgTargetYield) && w.src.took, EventPeerTook)
	}
	on(has(msgTargetYield) && !w.src.took, EventYield)
	return out
}

func (m *model) targetHears(w world, out []world) []world {
	has := func(x message) bool { return w.sent&x != 0 }
	on := func(ok bool, e Event) {
		if ok {
			out = m.event(w, RoleTarget, e, out)
		}
	}
	on(w.tgt.state == StateNew, EventBegin)
	on(w.tgt.state == StateReceiving && has(msgPrepare), EventPrepare)
	// after a reboot in the resume only an operator decides
	on(has(msgCommit|msgSourceCommitted) && !(w.tgt.state == StateCommitted && w.tgt.reboot), EventCommit)
	on(has(msgAbort|msgSourceAborted), EventAbort)
	on(true, EventCut)
	on(w.tgt.state == StatePrepared && w.tgt.job == dead, EventGone)
	on(has(msgSourceAborted) && w.tgt.took && !w.tgt.reboot, EventCommit)
	on(has(msgSourceYield) && !(w.tgt.took && w.tgt.state == StateDone), EventYield)
	return out
}

// answers are given from the journals of agents that run.
func (m *model) answers(w world, out []world) []world {
	say := func(x message) {
		if w.sent&x == 0 {
			c := w
			c.sent |= x
			out = append(out, c)
		}
	}
	if w.tgt.blind && m.forgets && w.sent&(msgSourceAsks|msgAbort) != 0 {
		say(msgTargetDropped)
	}
	srcAnswers, tgtAnswers := !w.src.down && !w.src.blind, !w.tgt.down && !w.tgt.blind
	deciding := w.src.took && !w.src.state.Finished() && w.src.state != StateAborting
	if w.sent&msgTargetAsks != 0 && srcAnswers && !deciding {
		switch w.src.state {
		case StateCommitted, StateReleased:
			say(msgSourceCommitted)
		case StateAborting, StateAborted:
			if w.src.took {
				say(msgSourceYield)
			} else {
				say(msgSourceAborted)
			}
		}
	}
	if w.src.took && w.src.state == StateAborted && srcAnswers {
		say(msgSourceYield)
	}
	if tgtAnswers {
		if w.tgt.took && w.tgt.state == StateDone {
			say(msgTargetYield)
		}
		switch w.tgt.state {
		case StatePrepared:
			say(msgPrepared)
		case StateDone:
			say(msgRuns)
		}
	}
	if w.sent&msgSourceAsks != 0 && tgtAnswers {
		switch w.tgt.state {
		case StateDropped:
			say(msgTargetDropped)
		case StateNew, StateReceiving:
			say(msgTargetHasNone)
		case StateDone:
			say(msgTargetHasCopy)
			say(msgTargetTook)
			say(msgRuns)
		case StateCommitted:
			say(msgTargetHasCopy)
			say(msgTargetTook)
		default:
			say(msgTargetHasCopy)
		}
	}
	return out
}
