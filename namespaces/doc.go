// Package namespaces starts a job in namespaces of its own, and runs commands in them.
//
// A job's identity is a set of numbers: pids, System V ids, addresses, user ids, clock
// readings. They have a meaning only inside a namespace. A restored job keeps all of them,
// because it gets an instance of every namespace to itself. CRIU can save and restore
// these namespaces only if they are made in a certain order:
//
//		shim ── stage 1: user? mount net ipc uts     (clone)
//		           │     cgroup time                 (unshare: the cgroup must be entered
//		           │                                  first; a time namespace takes only
//		           │                                  tasks that are made later)
//		           └─ CLONE_PARENT ─ stage 2: PID 1 of the pid namespace, child of the
//		                             shim: mounts, pivot_root, setsid, uid, stdio,
//		                             execve of the job's command
//
//	  - PID 1 is its own session leader; CRIU refuses a session from outside.
//	  - Every descriptor of the job is opened after pivot_root. CRIU cannot name a file of
//	    another mount namespace.
//	  - The root is a bind of one directory, not a copy of the whole mount tree. Each further
//	    mount is new (proc, dev, tmp …) or external: every node binds it by its path.
//	  - What the job's user can change is resolved once and then named by a descriptor:
//	    sources with the user's rights, targets inside the job's root, and this program
//	    before anything is mounted.
//	  - The user namespace comes first, so that it owns the others. The groups of its user map
//	    to themselves: a group may close a file (mode 0604), and CRIU restores mapped groups
//	    only. /proc/PID/setgroups ("deny") would bind CRIU too, which writes the map and then
//	    sets groups. So CAP_SETGID is dropped from the bounding set, which a dump keeps.
//	    Namespaces made inside cannot set groups either: they map no more than one's own.
//	  - A job does not inherit priorities, ignored signals or keys of its starter. A command
//	    that is executed in the job gets what PID 1 has; see attrs.go.
//
// The kernel tells who PID 1 is. Stage 1 gets a pidfd from clone (CLONE_PIDFD) and sends it
// to the shim. Stage 2 never has the socket for that. It waits for its configuration
// meanwhile. The shim checks that the process is its own child, and PID 1 in the
// namespaces of stage 1. From then on it signals and waits by the pidfd.
//
// Stage 2 becomes the user's process. It is not dumpable before the execve, so that its
// user can neither trace it nor take its descriptors. The shim accepts only text from it:
// the reason why a start failed.
//
// The stages are this same binary started again; see Stage. The package knows
// nothing of jobs, agents or CRIU: it is given a Config and returns a pid.
package namespaces
