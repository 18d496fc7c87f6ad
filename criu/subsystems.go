package criu

import "regexp"

// subsystems tells what failed by the file of CRIU's source that a message comes from. It explains what
// none of kinds does, so that every message has a code.
var subsystems = []kind{
	{"permission", regexp.MustCompile(`: (Operation not permitted|Permission denied)`),
		"the kernel refused CRIU something on this node, which the agent's capabilities or a security module withhold",
		"run the agent as root with all capabilities; `journalctl -k` tells what a security module refuses"},
	{"socket", regexp.MustCompile(`\(criu/(sk-|sockets|scm)|\(soccr/`), "a socket of the job could not be saved or made again", "see which: `ss -ap` in the job; close it before the move"},
	{"network", regexp.MustCompile(`\(criu/(net|netfilter|libnetlink)`), "the job's network could not be saved or made again", "see that ip, iptables and nft are installed on both nodes: `ip -V; iptables -V; nft -v`"},
	{"mount", regexp.MustCompile(`\(criu/(mount|filesystems|autofs|sysctl)`), "a mount of the job could not be saved or made again", "unmount it inside the job, or name it at the start: `migrate run --bind PATH …`"},
	{"namespace", regexp.MustCompile(`\(criu/(namespaces|timens|uts_ns|pid_ns)`), "a namespace of the job could not be saved or made again", "see that this node allows them: `sysctl user`"},
	{"ipc", regexp.MustCompile(`\(criu/ipc_ns`), "System V IPC of the job could not be saved or made again", "see what it has: `migrate exec JOB ipcs`"},
	{"terminal", regexp.MustCompile(`\(criu/(tty|tun)`), "a terminal or tunnel of the job could not be saved or made again", "run the program without it"},
	{"file", regexp.MustCompile(`\(criu/(files|fs|file-|fdinfo|fifo|pipes|memfd|hugetlb|event|signalfd|timerfd|fsnotify|irmap|path|bpfmap|pidfd)`), "an open file of the job could not be saved or opened again", "see which, in the lines quoted, and close it before the move: `ls -l /proc/PID/fd`"},
	{"memory", regexp.MustCompile(`\(criu/(mem|shmem|page|pagemap|uffd|aio|vdso|madv)`), "memory of the job could not be saved or made again", "try `migrate move --eager JOB NODE`"},
	{"image", regexp.MustCompile(`\(criu/(image|protobuf|bfd|img|inventory)`), "an image of the job is damaged, or cannot be written or read", "`df` shows whether there is room; try again"},
	{"cgroup", regexp.MustCompile(`\(criu/(cgroup|seize)`), "the job's cgroup could not be used", "see what holds it: `migrate inspect JOB`"},
	{"task", regexp.MustCompile(`\((criu/|compel/)`), "a process of the job could not be saved or made again", "see the lines quoted; the whole log is on the node, in the agent's state directory: `ls criu-logs`"},
}
