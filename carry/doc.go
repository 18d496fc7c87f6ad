// Package carry is the port for what a job has, a move carries and CRIU does not, or not well.
// A new resource is one package and one row in carry/table. The packages checkpoint, restore,
// preflight and fileaccess, and the agent's, ask the table and know no resource.
//
// A resource has up to three parts, each made anew for a job. All are optional:
//
//	source  agent  Source     job runs         Warm, a round; and again
//	                          freeze is next   Look
//	                          frozen           Freeze
//	                          CRIU dumps       LastRound, Snapshot
//	                          dumped           FixImages, Send
//	                          it runs on here  Thaw
//	target  agent  Receiver   lanes are read   Read, Complete
//	                          CRIU starts      Mounts
//	        shim   Restorer   before CRIU      Prepare
//	                          CRIU restores    NamespacesMade, NamespacesReady, Parked
//	                          it will run      Commit
//	                          it is frozen     Wait ([Waiter]), Mend ([Mender])
//	                          it will not      Undo; Recover, if the shim was killed
//
// The target has two parts because two processes do its work. The agent reads what arrives,
// and may end before the job runs. The shim runs CRIU and outlives the agent. They share
// the images, mounts that are attached nowhere, and [Env].
//
// The parts of a resource are files of one package, source.go and target.go. They share the
// format that crosses and no state: no process has more than one of them. One package keeps
// the format private to both sides, and a test can send what it receives.
//
// A stage that a resource does not need is [NoSource]'s or [NoRestorer]'s. One interface with a
// default for every stage was preferred to one for each stage: what comes when is read in one
// place.
//
// A resource may also only tell what no move can take along: Check, and Passing for what is over in
// a moment.
//
// Two things that look alike are no rows. The job's output is read by users while the job
// is frozen or gone, so it lies in a directory of the agent and not in the job. The state
// of the network decides which namespaces CRIU makes, and so which CRIU is started before
// the freeze: that is known before the first stage of any resource.
package carry
