// Package handoff decides which of two nodes owns a job while it moves. It knows nothing of CRIU,
// memory or sockets: it declares the three things it needs (Source, Target, Peer), keeps a journal,
// and calls them in the order that loses no job and runs none twice.
//
//	         SOURCE                                 TARGET
//	         new                                    new
//	          │ start                                │ begin: the fence admits the epoch
//	          │                                      ▼
//	          │ J frozen                            receiving ── cut, fail, abort, restart ──┐
//	          ▼                                      │                                       │
//	┌───── frozen    Freeze, Transfer                │                                       │
//	│ fail    │      Prepare ────────────────►       │ Prepare (park), J prepared            │
//	│         │      ◄─────────────── prepared       ▼                                       │
//	│         │      StillFrozen                    prepared ── abort, parked copy gone ─────┤
//	│         │ J committed: the commit point        │   cut or restart: stays, and asks     │
//	│         ▼                                      │                                       │
//	│      committed  Commit ────────────────►       │ StillParked, J committed              │
//	│  peer │ │                                      ▼                                       │
//	│ dropped │                                     committed  Resume ─ it never ran ────────┤
//	▼       │ │                                      │ J done                                ▼
//	aborting┘ │      ◄─────────────────── runs       ▼                                    dropped
//	│ Thaw    │ Release, J released                 done                                  (Drop, J)
//	▼         ▼
//	aborted  released
//
// J is a journal record, on the disk before the next thing happens. The table behind the picture
// is in step.go. It is pure; the [Engine] performs the actions that it names,
// and the model test performs them in every order that a lossy network and crashing nodes can make.
//
// # Invariants
//
//  1. At every instant at most one copy can run. The source's job is frozen from before the first
//     byte of state leaves it, the target's copy is parked until it has its own committed record, and
//     once either has run the other never does.
//  2. At every instant one copy can be recovered. The source keeps the frozen job until the target
//     says that the job runs; a parked copy is not dropped while the source may have committed.
//  3. The source's committed record is the only commit point. The target never decides by itself:
//     it commits or drops on the source's word, and asks for it as long as it takes.
//  4. Every action is idempotent. An engine that does not know whether it happened does it again.
//  5. A node refuses an epoch that it has seen (Fence), so nothing of an attempt that is over counts.
//
// # What a node does with an unfinished record when its agent starts
//
//	source  frozen     aborting, and on as there  after a reboot: the frozen job is gone, so ask the
//	                                              target: parked there → commit; else it is lost
//	source  aborting   have the target drop its copy: dropped → thaw, aborted; it runs, because an
//	                   operator decided so → commit; unreachable → try again, the job stays frozen
//	                                              after a reboot: aborted
//	source  committed  commit again until the target runs it, then release; aborted only if the
//	                   target proves that it dropped the job and never ran it
//	target  receiving  drop
//	target  prepared   ask the source: committed → commit, aborted → drop; unreachable → ask again
//	                                              after a reboot: the parked copy is gone, drop
//	target  committed  it runs → done; else ask the source: committed → resume, done; an operator took
//	                   the job there → end; unreachable → ask again
//	                                              after a reboot: in doubt, the job may have run here
//
// "Aborting" is a record of its own because a thawed job runs on: a parked copy that is older must
// never be taken for the job afterwards, not even when the source dies with the rest of its abort
// undone. When that record cannot be written (a disk that is full or failing), the job is thawed
// nevertheless, unless a committed record may be on the disk: then it stays frozen, in doubt.
//
// A broken connection decides nothing, and neither does an error: after the commit point only the
// peer's own record does.
//
// # Operators
//
// A move that no record decides waits for an operator: ResolveSource, TargetHalf.Resolve. Its node is
// gone for good, or went down between its committed record and the resume.
//
//	             take: the copy here is the job        drop: it is not
//	source       aborting, thaw, aborted (Taken)       release, released; a parked copy runs when its
//	                                                   node is back
//	target       committed (Taken), resume, done       drop, dropped; a frozen job is thawed when its
//	                                                   node is back
//
// The operator vouches that the other copy does not run and has not run since the freeze: no program can
// find that out about a node that does not answer. What the programs see to is that it stays so, however
// late that node comes back: an agent that starts asks before it lets a copy run whose peer may have
// been decided for meanwhile. That is why a restarted source does not simply thaw, and a restarted
// target does not simply resume. A source that is deciding does not tell its peer of a commit any more,
// and one whose job was taken answers StateTaken.
//
// A record that is Taken has PeerToTell until the other node has ended what it has of the job (Peer.Yield,
// YieldSource, TargetHalf.Yield). If what the operator vouched for was wrong, and the other copy runs,
// it ends then. Two operators who take both copies get both; each node then refuses to yield
// (ErrTaken), and a person must end one.
//
// # Restores
//
// A restore from a directory is a move whose source is a store: the target's half, by the same rules.
// The directory cannot be asked whether it has let the job go before, so the nodes are (Inquiry):
//
//	ask      the node that wrote the directory, those that the job was on, those that a claim in it
//	         names, this node, and whom their answers name: where the job moved to, who was granted to
//	         bring it back. Each says that the job does not live there, or it is a refusal.
//	begin    the target half, under an epoch above all that were seen: from here on this node says
//	         that the job comes to live here.
//	grant    every node that was asked lets this node have the job, if nothing has happened there since
//	         (Fence.Grant, a compare-and-set). Of several at a time at most one is granted by all.
//	         The word is on the disk of a node that the job's user cannot touch, so that a node which asks
//	         later hears of it. It is no proof that the job has run: the grantee is asked. So a restore
//	         that fails, or whose agent crashes, has nothing to take back.
//	park, claim, commit, as ever.
//
// A node that does not answer is a refusal, unless an operator declares it dead. Then all nodes that
// may know where the job went are asked as well; what has to be told to the dead is on the disk (Debt)
// before they are tried once more; and the epoch begins a new line (Line). If the operator was wrong
// there are two copies. The one of the older line ends as soon as its node hears of a copy of a later
// one that has run: it is told, and it asks. A node that went down, and may have been declared dead
// rightly, says nothing of any job before it has heard from all of its peers (Fence.Booted).
//
// The model of restores runs this through crashes, lost and late messages, cuts, reboots and operators
// who are wrong (model_restore_test.go).
//
// # Journal, format 1
//
// One file per move, DIR/MOVE.journal, one line per record:
//
//	{"crc32c":"9ae0daaf","record":{"move":"m…","kind":"move","job":"j…","role":"source",…}}
//
// A record says of what kind the move is: move, checkpoint or restore.
//
// crc32c is the Castagnoli CRC of the bytes of the record's value, 8 lower-case hex digits. The last
// line is the state of the move. A line is on the disk (fsync) before anything follows from it. The
// first one appears whole or not at all. A later last line without a newline was cut short by a crash:
// it is taken if its CRC is right, and else ignored, because nothing can have followed from it.
//
// Any other damage is an error, and the move is left alone: a journal that has lost a committed record
// would start a second copy. Nor does another move of a job begin that the file may be about (Guard):
// its lines name the job, each of them; where none can be read it may be any that could have left a
// record before the file changed last. That ends when an operator sets the file aside (SetAside),
// which decides nothing: a node whose file was set aside tells its peer nothing, as before.
//
// testdata/journal-1 holds an example, testdata/without-kind what was written before records had a
// kind.
package handoff
