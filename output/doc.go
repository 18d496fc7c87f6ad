// Package output bounds what jobs print into the state directory.
//
// The job itself writes the files, which belong to its user: so a restored job finds
// them as it left them. No kernel limits one file of a file system. So the job's shim
// looks at them, the sooner again the less room there is:
//
//	both files ──► above the job's limit ─────────────────────────► the job is ended,
//	          └──► the disk is nearly full, they grow, and no user ─► the files are cut
//	               keeps more output here than this one
//
// The shim looks, because agents come and go. The limit travels with the job. A look costs three system calls, and there is at most one a second as long as
// the limit is far away. inotify would not do: it says nothing of fallocate(2) on kernels
// before 6.1, and root has 128 instances for all that it runs.
//
// Between two looks a job can fill the disk. That lasts until the next one: what is above
// the limit is cut off before the job has even ended. What is kept is the beginning, up
// to the limit, without a gap.
package output
