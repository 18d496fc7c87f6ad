package preflight

// Code names a kind of finding. It is stable: scripts may branch on it.
type Code string

// About the source and its CRIU; the first three about the target, too.
const (
	CRIUMissing   Code = "criu-missing"     // no CRIU, or it does not start
	CRIUTooOld    Code = "criu-too-old"     // below what is known to work on this kernel
	CRIUOlder     Code = "criu-older"       // the target's is older than the source's
	ImagesShort   Code = "images-short"     // no room on the source for what CRIU writes down
	RlimitsHidden Code = "rlimits-withheld" // another user's job, no user namespace, no CAP_SYS_RESOURCE
)

// About what a task holds.
const (
	DeviceOpen       Code = "device-open"          // a device that no other node has the state of
	GPU              Code = "gpu"                  // open or mapped
	RDMA             Code = "rdma"                 // open or mapped
	IOUring          Code = "io-uring"             // a ring
	PerfEvent        Code = "perf-event"           // a performance counter
	BPF              Code = "bpf"                  // a BPF program, map or link
	Userfaultfd      Code = "userfaultfd"          // handles page faults itself
	KernelObject     Code = "kernel-object"        // another anonymous inode that CRIU cannot save
	PidfdOutside     Code = "pidfd-outside"        // refers to a process that stays behind
	NamespaceOpen    Code = "namespace-open"       // a namespace that is not the job's
	SocketKind       Code = "socket-unsupported"   // a family or protocol that CRIU cannot save
	SocketUnread     Code = "netlink-unread"       // an answer of the kernel that waits in a netlink socket
	PacketPipe       Code = "packet-pipe"          // a pipe in packet mode
	AlarmTimer       Code = "alarm-timer"          // a timerfd of a clock that wakes the node
	FileCovered      Code = "file-covered"         // a mount lies over it
	PathTooLong      Code = "path-too-long"        // the kernel does not tell it
	SocketOutside    Code = "socket-outside"       // a Unix socket connected to a process that stays behind
	DescriptorsFull  Code = "descriptors-full"     // as many as the limit allows, and this node may not raise it
	Unaccepted       Code = "connection-waiting"   // no program has accepted it, and it cannot be saved
	Unread           Code = "datagram-waiting"     // no program has read it
	FIFOOutside      Code = "fifo-outside"         // a FIFO that a process which stays behind has open too
	FileOutside      Code = "file-outside"         // opened outside of the job's mounts
	LeaseHeld        Code = "lease"                // on a file that the target would open
	DeletedTooBig    Code = "deleted-file-too-big" // above what CRIU may be left to carry
	NameGone         Code = "file-name-gone"       // unlinked, other names remain, not on a shared file system
	NameReused       Code = "file-name-reused"     // its name leads to another file now
	DeviceMapped     Code = "device-mapped"        // memory of a device
	HugePages        Code = "hugetlb"              // mapped or open
	SecretMemory     Code = "secret-memory"        // memfd_secret(2)
	Uprobes          Code = "uprobes"              // another program traces its functions
	QueueNotify      Code = "mq-notify"            // waits for a message queue to tell it
	KeysHeld         Code = "keys"                 // in a session keyring of the job's
	MountUnsupported Code = "mount-unsupported"    // mounted inside the job, of a type that CRIU cannot make again
	MountClosed      Code = "mount-closed"         // beneath a directory that root of the user namespace may not search
)

// About the tasks themselves.
const (
	Traced           Code = "ptraced"
	NestedNamespace  Code = "nested-namespace"  // not in the namespaces of the job's PID 1
	VisitorInside    Code = "visitor-inside"    // `migrate exec` still runs
	OutsideNamespace Code = "outside-namespace" // in the job's cgroup, not in its pid namespace
	OutsideCgroup    Code = "outside-cgroup"    // in the job's pid namespace, not in its cgroup
	LeaderGone       Code = "main-thread-gone"  // other threads go on
)

// About the target.
const (
	ArchDiffers        Code = "arch-differs"
	CPUFlagsMissing    Code = "cpu-flags-missing"
	CPUsMissing        Code = "cpus-missing" // that threads are bound to and shall stay bound to
	FileMissing        Code = "file-missing"
	FileSize           Code = "file-size-differs"
	FileMode           Code = "file-mode-differs"
	FileDenied         Code = "file-denied" // root may not reach it, or the job's user not open it
	MountMissing       Code = "mount-missing"
	RootMissing        Code = "root-missing"
	WorkDirMissing     Code = "work-dir-missing"
	BridgeMissing      Code = "bridge-missing"
	UIDRangeTaken      Code = "uid-range-taken"
	JobHere            Code = "job-here"
	MemoryShort        Code = "memory-short"
	CopyOnWrite        Code = "copy-on-write"  // copies would not fit into the job's limit
	AddressTaken       Code = "address-taken"  // or the MAC
	NetworkDenied      Code = "network-denied" // the node's rules do not give the job's user the bridge or address
	FilterMissing      Code = "filter-missing" // the kernel cannot filter what the job's port takes in
	NamespacesDisabled Code = "namespaces-disabled"
	UserfaultfdMissing Code = "userfaultfd-missing" // the kernel cannot bring memory in lazily
	ClockBehind        Code = "clock-behind"
	QuotaReached       Code = "quota-reached" // the job's user keeps too much there
)
