// Package source is a job on the node that it leaves. Recovery makes a [Job] anew from the job's
// record.
package source
