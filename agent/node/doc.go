// Package node is what every part of an agent knows of its node: directories, jobs, journal,
// fence and records, which jobs leave just now, and what must not be touched.
package node
