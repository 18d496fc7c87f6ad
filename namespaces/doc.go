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
//	  - The user namespace comes first, so that it owns the others.
//
// The stages are this same binary started again; see Stage. The package knows
// nothing of jobs, agents or CRIU: it is given a Config and returns a pid.
package namespaces
