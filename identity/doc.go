// Package identity is what the kernel goes by when it grants or refuses: the ids, groups,
// capabilities, no_new_privs and seccomp filters of every thread of a job, and the maps of
// its user namespace. It reads them from the kernel, writes them down, and compares.
//
//	source, job frozen            target
//	Of ──► identity.json ───────► ┐
//	CRIU ─► core-*.img, … ──────► ┴─ before CRIU: images = record, images obey the rule
//	                                 post-restore: namespaces, maps, cgroup, who is there
//	                                 pre-resume:   kernel = record, kernel obeys the rule
//	job's specification ────────────► Rule
//
// CRIU is root and makes a job into whatever its images say. So two things are asked of a
// job that comes back. The rule follows from the specification and holds whoever has
// written the images: a plain user's job has that user's ids and no capability. The record
// is the source's, taken from the kernel while the job was frozen: what has arrived must
// be that, no more and no less.
//
// # When it is asked
//
// CRIU 4.2.1 sets credentials later than one would think (criu/cr-restore.c,
// restore_root_task; criu/pie/restorer.c, restore_creds and restore_seccomp). At its
// notification post-restore, where a job is parked, every task is still root with all
// capabilities and without no_new_privs; seen on Linux 6.18. What is final there is who is
// there, the namespaces, the maps and the cgroups.
//
// The tasks take on their ids, capabilities, seccomp filters and no_new_privs between that
// notification and pre-resume, behind the commit of a move. At pre-resume every thread stands
// at the end of its restorer, in front of rt_sigreturn, under CRIU's ptrace ("t (tracing
// stop)" in its status); /proc shows its final credentials, and seccomp's mode as well,
// although ptrace suspends the filters. Nothing but registers is set after that. CRIU does
// not care what pre-resume is answered. But a task that has SIGKILL pending never gets to
// user mode, so whoever asks there and does not like the answer kills, and only then
// answers. Nothing of the job has run, and the source may go on with it.
//
// What the images say is known before CRIU has touched anything, and CRIU sets just that or
// fails. So a job that must not run is nearly always refused there, before the commit; the
// kernel's word at pre-resume is for a CRIU, or a reading of the images, that is wrong.
//
// # What is not asked
//
// What has ended and waits for its parent: CRIU makes it as root, but it never runs.
// Resource limits, the OOM score, scheduling policies, the login uid and labels of security
// modules come as CRIU saves and restores them, and nobody compares them.
//
// # What cannot be asked
//
// The kernel tells nobody the securebits of another task. CRIU asks from within it, at the
// dump; that word is in the record, the images are compared with it and with the rule, and
// CRIU sets them or fails. Of seccomp filters their number is compared,
// not what they are: only a tracer can read them, and CRIU is that. Linux before 5.9 does not
// tell the number.
package identity
