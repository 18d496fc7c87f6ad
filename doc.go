// Package migrate holds no code: the program is cmd/migrate. What is here is the
// map of the packages, and a test that holds it.
//
//	cmd/migrate     cobra commands: flags → options → one run function; exit codes
//	demo            what `migrate demo` shows
//	report          a move as one HTML file
//	agent           wires a node's agent: opens, recovers, serves
//	agent/server    one file per verb: the routes, callers' limits, passing on
//	agent/transfer  move, checkpoint, restore, resolve: each from its beginning to its end
//	agent/copies    that a job has one copy, whoever restores it: what nodes ask each other
//	agent/source    a job that leaves          agent/target   a job that comes
//	agent/launch    starts a job, and finds room, ids and addresses for it
//	agent/peer      other agents: messages, questions, the client of a move
//	agent/progress  what a user is told of a move, and its record
//	agent/node      what all of these know of their node: paths, jobs, journal, fence
//	agent/caller    who asks, and how much one may ask for
//	agent/httpjson  requests and answers in JSON
//	agent/api       what an agent and its callers agree on
//	shim            a job's parent: starts or restores it, reaps it, fills its memory
//	preflight       what would make a move fail, found before anything is touched
//	identity        who a job's threads are for the kernel: recorded, compared
//	fileaccess      whether a job's user could open what the job holds
//	handoff         who owns a job: state machine, journal, recovery
//	checkpoint      the source's half          restore        the target's half
//	criu            swrk client of CRIU: the only place that speaks to it
//	criu/image      its image files, and what is changed in them
//	stream          what a connection and a checkpoint's file both carry: frames, compression, page runs, digests
//	carry           what CRIU does not carry: a port with two halves, carry/table its rows
//	carry/privatetmpfs  /dev, /dev/shm and /tmp; carry/queues  POSIX message queues
//	carry/calls     system calls that a dump has interrupted
//	carry/descriptors  room for those of CRIU in a process that has as many as it may
//	carry/filelocks exclusive locks on files that both nodes share
//	carry/segments  shared memory that no path leads to; carry/socketnames  names of Unix sockets
//	carry/threads   what threads and processes have asked the kernel for, as to be bound to processors
//	carry/socketoptions options of sockets, and multicast groups
//	carry/unread    what has arrived at sockets and no program has taken yet
//	store           where checkpoints live: what is signed, checked and claimed, whatever the place
//	store/directory the place that is a directory; store/storetest: what every place must pass
//	checkpoint/scan reading memory             restore/pagestore, restore/pageset  memory on its way
//	restore/uffd    the fault server
//	checkpoint/converge when to freeze
//	affinity        the processors of threads, here and on another node
//	mqueue          POSIX message queues, which CRIU does not carry
//	tmpfs           files in memory, /dev/shm and /tmp: sent in rounds, built on the target
//	output          how much jobs may print, and what users keep
//	transport       TLS sessions; what they carry is opaque
//	transport/pki   the cluster's certificates
//	job             record, specification, store
//	durable         files that last
//	namespaces      create, enter, inspect; mounts
//	namespaces/cgroup  a job's control group: limits, freezer, kill
//	namespaces/network a job's interface, and what its network differs in
//	namespaces/network/antispoof what a job's port takes in
//	namespaces/network/sockdiag what sockets a network has
//	namespaces/network/classifier BPF programs where frames pass
//	namespaces/network/conflict whether an address is free
//	netpolicy       who may use which bridge and addresses
//	failpoint       points at which tests make a program fail; nothing without its build tag
//	safepath        whether nobody but root decides what a path leads to
//	exactjson       JSON for paths and arguments that need not be UTF-8
//	printable       text from elsewhere, made fit for a terminal
//	inject          stops threads of other processes, has them make system calls
//	osthread        a thread that ends with what it ran, gives way, has a user's rights to files
//	parallel        spreads work on the processors while a job is frozen
//	logkey          the keys of the log
//	humanize        sizes and durations as people read them
//	linux           what every caller of the kernel writes again
//	procfs          what /proc tells of a process
//	timens, pidmap  clocks and pids across namespaces
//
//	testenv         what tests of several packages need; agent/node/nodetest: a node for tests
//	e2e             tests of whole nodes: e2e/node on one machine, e2e/vm on virtual machines, e2e/demo,
//	                e2e/bench; e2e/oracle is the job that checks itself, e2e/tamper changes signed images
//	scripts/house   what the linter holds of the house rules in CONTRIBUTING.md
//
// Imports go downwards only. To read the code from the top: cmd/migrate, agent, handoff, checkpoint, restore.
package migrate
