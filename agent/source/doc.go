// Package source is a job on the node that it leaves. A [Job] is made anew from the job's
// record at any time, which is what recovery does.
package source
