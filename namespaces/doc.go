// Package namespaces starts a job in namespaces of its own, finds it there
// again and lets others in.
//
// A job's identity is a set of numbers that only mean something inside a
// namespace: pids, System V ids, addresses, user ids, clock readings. A restored
// job keeps all of them because it gets an instance of every namespace to itself.
// How they are made decides whether CRIU can take them apart and put them
// together again, so the order here is not a matter of taste:
//
//		shim ── stage one: user? mount net ipc uts     (clone)
//		           │       cgroup time                 (unshare: the cgroup must be
//		           │                                    entered first; a time namespace
//		           │                                    takes only tasks yet to be born)
//		           └─ CLONE_PARENT ─ stage two: PID 1 of the pid namespace, child of
//		                             the shim: mounts, pivot_root, setsid, uid, stdio,
//		                             execve of the job's command
//
//	  - PID 1 is its own session leader; CRIU refuses a session from outside.
//	  - Every descriptor of the job is opened after pivot_root; CRIU cannot name a
//	    file that lives in a foreign mount namespace.
//	  - The root is a bind of one directory, not a copy of the whole mount tree;
//	    each further mount is either made new (proc, dev, tmp …) or external, that is
//	    bound by path on every node.
//	  - What the job's user has a say in is looked up once and then known by its
//	    descriptor: sources with the user's rights, targets inside the job's root, and
//	    this program before anything is mounted.
//	  - The user namespace comes first, so that it owns the others. Groups of its user's
//	    map to themselves there: one may close a file (mode 0604), and CRIU restores only
//	    groups that are mapped. The kernel's own remedy (/proc/PID/setgroups, "deny") comes
//	    before the map and would hold for CRIU as well, which makes the map and then sets
//	    groups. So nobody in the job gets CAP_SETGID: it is dropped from the bounding set,
//	    which a dump keeps, and namespaces made inside may not set groups, because nobody
//	    there can map more than their own.
//	  - What the starter has beyond that (priorities, ignored signals, keys) a job does not
//	    get, and a visitor gets what PID 1 has; see attrs.go.
//
// Who PID 1 is comes from the kernel: stage one gets a descriptor of it from clone
// (CLONE_PIDFD) and hands it to the shim, over a socket that stage two never has, while
// stage two waits for its configuration. The shim looks whether that is a child of its own
// and PID 1 in the namespaces of stage one, and from then on signals it and waits for it
// by the descriptor. Stage two ends up as the user's process. It is not dumpable until the
// execve, so that its user can neither trace it nor take what it has open; and all that is
// listened to from it is a text that says why a start has failed.
//
// The stages are this same binary started again; see Stage. The package knows
// nothing of jobs, agents or CRIU: it is given a Config and returns a pid.
package namespaces
