// Package cgroup makes, limits, freezes and kills the control group of a job.
//
// A node has one of three layouts: version 1 controllers, one version 2 tree, or both. A
// job has a directory in each hierarchy that matters, see [Cgroup]. The freezer is on the
// level below the one with the limits:
//
//	migrate-NODE-JOB          limits; a scheduler or operator suspends the job here
//	 └ held                   the tasks; only migrate freezes and thaws here
//
// A freeze therefore tells who made it. The state of a freeze is always asked from the
// kernel, never remembered: the agent may restart at any moment.
package cgroup
