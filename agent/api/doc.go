// Package api is what an agent and its callers agree on: the requests, the replies,
// and a client for them.
//
// One API serves three kinds of callers. A user's command reaches the agent of
// its own node over a unix socket, where the kernel says who the user is. An
// agent reaches its peers over TLS: the certificate says which node it is, and the
// headers which user it speaks for. An agent passes a request for a job that has moved
// on to the node of the job. So a user on the node that the job left gets the same
// answer as one on the node where it runs.
//
//	GET    /v1/node                      any    → Node: versions, kernel, address
//	GET    /v1/jobs                      any    → []Job: the caller's jobs, all of them for root
//	POST   /v1/jobs                      local  RunRequest → Job: starts it
//	GET    /v1/jobs/{job}                owner  → Job: all about it
//	GET    /v1/jobs/{job}/wait           owner  → Job: when it ends or moves, or after 20 s
//	GET    /v1/jobs/{job}/logs           owner  → its output; ?stream=stdout|stderr&offset=BYTES&follow=true
//	POST   /v1/jobs/{job}/signal         owner  SignalRequest → nothing: the signal is sent
//	POST   /v1/jobs/{job}/exec           owner  ExecRequest → an upgraded connection: see ExecProtocol
//	POST   /v1/jobs/{job}/move           owner  MoveRequest → Events
//	POST   /v1/jobs/{job}/checkpoint     local owner  CheckpointRequest → Events
//	DELETE /v1/jobs/{job}                owner  → nothing: an ended job is forgotten; ?force=true ends it first
//	POST   /v1/restore                   local  RestoreRequest → Events
//	GET    /v1/moves                     any    → []MoveSummary: the caller's moves, all of them for root; ?all=true
//	GET    /v1/moves/{move}              owner  → MoveRecord
//	GET    /v1/moves/{move}/resolve      local root  → ResolvePlan: what the decision would do; ?take=true|false or ?forget=true
//	POST   /v1/moves/{move}/resolve      local root  → ResolvePlan: the decision, done
//
// The owner is the user of the job, or root. A local caller comes over the socket, not through
// another node.
//
// Agents ask each other whose a job is. Only a node of the cluster may, in its own
// name and for no user; docs/formats.md has the bodies.
//
//	GET    /v1/peer/jobs/{job}             node  → handoff.Answer: what the asked node knows of the job
//	POST   /v1/peer/jobs/{job}/grant       node  epoch, seen, port → nothing: the asking node may bring the job back
//	POST   /v1/peer/jobs/{job}/superseded  node  epoch, port → next, epoch: the asked node ends its older copy
//	POST   /v1/peer/jobs                   node  runs, left → superseded, owed, fates: what has become of these jobs
//
// Events are one JSON object per line; the last one has Done or Error set. A
// reply that ends without one was cut off and proves nothing.
package api
