// Package node is what every part of an agent knows of its node: directories, jobs, journal,
// fence and records, which jobs are leaving, and which jobs a damaged journal guards.
package node
