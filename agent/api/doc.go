// Package api is what an agent and those who talk to it agree on: the requests,
// the replies, and a client for them.
//
// One API serves three kinds of callers. A user's command reaches the agent of
// its own node over a unix socket, where the kernel says who the user is. An
// agent reaches its peers over TLS, where the certificate says which node it is,
// and names the user it speaks for. And because a request for a job that has
// moved on is passed along as it is, a user on the node that the job left gets
// the same answer as one on the node where it runs.
//
//	POST   /v1/jobs                    start a job                  RunRequest → Job
//	GET    /v1/jobs                    the caller's jobs            → []Job
//	GET    /v1/jobs/JOB                one job, all about it        → Job
//	GET    /v1/jobs/JOB/wait           until it ends or moves       → Job
//	GET    /v1/jobs/JOB/logs           its output, ?stream=&offset=&follow=
//	POST   /v1/jobs/JOB/signal         SignalRequest
//	POST   /v1/jobs/JOB/exec           upgraded: see ExecProtocol
//	POST   /v1/jobs/JOB/move           MoveRequest → Events
//	POST   /v1/jobs/JOB/checkpoint     CheckpointRequest → Events
//	DELETE /v1/jobs/JOB                forget an ended job, ?force=true ends it first
//	POST   /v1/restore                 RestoreRequest → Events
//	GET    /v1/node                    → Node
//
// What agents ask each other in their own name, to find out whose a job is, is not part of it: see
// agent/peers.go.
//
// Events are one JSON object per line; the last one has Done or Error set. A
// reply that ends without one was cut off and proves nothing.
package api
