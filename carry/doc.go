// Package carry is the port for what a job has, a move carries and CRIU does not. A new
// resource is one package and one row in carry/table. The packages checkpoint, restore,
// preflight and fileaccess ask the table and know no resource.
//
// A resource has a half on either side, each made anew for a job:
//
//	source   agent   Source     Freeze ─► (CRIU dumps) ─► FixImages
//	                            Thaw, if the job runs on here
//	target   shim    Restorer   Prepare ─► (CRIU restores) NamespacesMade ─► NamespacesReady
//
// The two halves are two files of one package, source.go and target.go. They share the
// format that crosses, format.go, and no state: one process has the one, another the other.
// One package for both keeps the format private and lets one test send what it receives.
//
// Two things that look alike are no rows. The job's output is read by users while the job
// is frozen or gone, so it lies in a directory of the agent and not in the job. The state
// of the network decides which namespaces CRIU makes, and so with which CRIU the job
// is dumped and restored: that is known before the first stage.
package carry
