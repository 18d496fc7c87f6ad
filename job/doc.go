// Package job holds what is known about a job: its id, the specification that started it and the
// record that accompanies it from node to node, and the store that keeps the records of one node.
//
//	DIR/                       /var/lib/migrate/jobs, one agent per node
//	└── j4k2m7q5xw3/           one directory per job, named by its id, for the job's other files too
//	    └── record.json        Record, written whole each time (package durable)
//
// The specification travels with the job, because the target must rebuild the surroundings that the
// job was started in: root, binds, limits, network. It is checked on every node that it comes to,
// since a peer's word is not better than a user's.
//
// A job keeps its id for life. Its epoch counts the attempts to move it: a source takes the next
// epoch before it offers the job to a peer and never uses one twice, aborted moves included, so
// that a node can refuse whatever belongs to an attempt that is over (handoff.Fence).
//
// # record.json, format 1
//
// One JSON object with the fields of Record in snake case and "format": 1. Times are RFC 3339 with
// nanoseconds, durations whole nanoseconds, sizes bytes. A reader refuses a format above its own,
// as it may lack what the newer one promises, and ignores fields that it does not know.
// testdata/record-1.json holds an example.
//
// The agent and the job's shim both update records. Update locks the job's directory (flock), so
// neither loses what the other wrote. Damage in one record never hides another job: List returns
// what can be read and an error that names the rest.
package job
