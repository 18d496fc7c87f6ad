package criu

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestKnownMessagesAreExplained(t *testing.T) {
	for message, word := range map[string]string{
		"Error (criu/files-ext.c:98): Can't dump file 5 of that type [600] (unknown anon_inode:[io_uring])":                                       "io_uring",
		"Error (criu/files-ext.c:98): Can't dump file 5 of that type [20666] (chr 195:0)":                                                         "device",
		"Error (criu/proc_parse.c:663): Can't handle non-regular mapping on 12's map 7f0000000000":                                                "mapped",
		"Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 5a3":                                                                  "Multipath",
		"Error (criu/sk-inet.c:137): inet: Unsupported proto 132 for socket 5a3":                                                                  "socket",
		"Error (criu/sockets.c:80): Can't get 1:16 opt: Operation not supported":                                                                  "6.16",
		"Error (criu/sk-inet.c:200): inet: Connected TCP socket, consider using --tcp-established option.":                                        "TCP connection",
		"Error (criu/sk-unix.c:881): unix: Can't dump half of stream unix connection. name: (null); peer name: (null)":                            "Unix socket",
		"Error (criu/sk-unix.c:874): unix: External socket is used. Consider using --ext-unix-sk option.":                                         "Unix socket",
		"Error (criu/files-reg.c:1031): Can't dump ghost file /tmp/big of 5000000 size, increase limit":                                           "deleted",
		"Error (criu/files-reg.c:1122): Can't create link remap for /tmp/x. Use link-remap option.":                                               "other names",
		"Error (criu/cr-dump.c:1681): A session leader of 12(1) is outside of its pid namespace":                                                  "session",
		"Error (criu/files-reg.c:1790): Can't lookup mount=24 for fd=10 path=/dev/null":                                                           "outside",
		"Error (criu/namespaces.c:460): Can't dump nested uts namespace for 12":                                                                   "namespace of its own",
		"Error (criu/mount.c:4048): mnt: Nested mount namespaces are not supported without userns":                                                "namespace of its own",
		"Error (criu/cr-dump.c:388): Can't get rlimit 0: Operation not permitted":                                                                 "CAP_SYS_RESOURCE",
		"Error (criu/seize.c:635): Unable to freeze cgroup /sys/fs/cgroup/x (10 x 100ms attempts, timeout: 10s)":                                  "frozen",
		"Error (criu/file-lock.c:110): Some file locks are hold by dumping tasks! You can try --file-locks to dump them.":                         "locks",
		"Error (criu/mount.c:753): mnt: 12:/data doesn't have a proper root mount":                                                                "external",
		"Error (criu/filesystems.c:552): mnt: /x is a fuse mount but not external":                                                                "FUSE",
		"Error (criu/files-reg.c:2175): File bin/app has bad size 10 (expect 11)":                                                                 "differs",
		"Error (criu/files-reg.c:2267): Can't open file bin/app: No such file or directory":                                                       "missing",
		"Error (criu/cr-restore.c:1539): Pid 5 do not match expected 1":                                                                           "process id",
		"Error (criu/cr-restore.c:1230): Can't fork for 1: File exists":                                                                           "process id",
		"Error (criu/arch/x86/cpu.c:247): cpu: FPU feature required by image is not supported on host (kind=2)":                                   "processor",
		"Error (criu/arch/x86/cpu.c:297): cpu: CPU capabilities do not match run time":                                                            "processor",
		"Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 5): Cannot assign requested address":                                       "port",
		"Error (criu/mount.c:48): mnt: BUG at criu/mount.c:48":                                                                                    "mount tree",
		"Error (criu/vdso.c:401): vdso: Unexpected rt vDSO area bounds":                                                                           "too old",
		"Error (criu/image.c:600): Can't write to image: No space left on device":                                                                 "full",
		"Warn  (compel/src/lib/infect.c:131): Unable to interrupt task: 12 (Operation not permitted)\nError (criu/cr-dump.c:1): Can't seize task": "debugger",
	} {
		f := DiagnoseText(strings.NewReader("(00.053810) " + message + "\n"))
		if !strings.Contains(f.Cause, word) || f.Remedy == "" || f.Code == "" {
			t.Errorf("%s\nis explained as %s, %q, %q", message, f.Code, f.Cause, f.Remedy)
		}
		if strings.Contains(strings.Join(f.Lines, " "), " --") {
			t.Errorf("options of CRIU's are named: %q", f.Lines)
		}
	}
}

func TestEveryKindOfFailureHasItsCode(t *testing.T) {
	for message, code := range map[string]string{
		"criu/proc_parse.c:712): PID 12 has uprobes vma. Consider using --allow-uprobes":                   "uprobes",
		"criu/sk-inet.c:440): inet: Can't dump corked dgram socket 5a3":                                    "socket-busy",
		"criu/sk-netlink.c:118): netlink: The socket has data to read":                                     "socket-busy",
		"criu/sk-unix.c:612): unix: In-flight connection on 31":                                            "connection-pending",
		"criu/sk-queue.c:146): skqueue: Control messages in queue, not supported":                          "message-with-descriptor",
		"criu/pipes.c:498): The packetized mode for pipes is not supported yet":                            "packet-pipe",
		"criu/fsnotify.c:260): fsnotify: \tCan't dump that handle":                                         "inotify-unnamed",
		"criu/ipc_ns.c:90): Sysv shmem 7f00 with a hole not supported":                                     "shared-memory-split",
		"criu/file-lock.c:647): Can not set posix lock!":                                                   "locks-held",
		"criu/pie/restorer.c:900): Can't create posix timer - 5: -22":                                      "timer-id",
		"criu/cr-restore.c:830): 12 killed by signal 9: Killed":                                            "process-killed",
		"criu/seize.c:800): zombie 12 (comm a) found while seizing":                                        "process-ended",
		"criu/seccomp.c:102): seccomp: Can't fetch filter on tid_real 12 i 0":                              "seccomp",
		"criu/lsm.c:80): can't render profile x for lsmtype 1: apparmor":                                   "security-module",
		"criu/files-reg.c:2300): File a has bad mode 0100644 (expect 0100600)\nFile r/w/x checks can be …": "file-differs",
		// No kind: the part of CRIU that speaks.
		"criu/sk-unix.c:2000): unix: Can't make socketpair: Invalid argument":                           "socket",
		"soccr/soccr.c:520): Can't restore inq queue data (-1), want (10:10)":                           "socket",
		"criu/net.c:2100): Can't restore link: -17":                                                     "network",
		"criu/mount-v2.c:300): mnt-v2: Failed to open_tree /x: Invalid argument":                        "mount",
		"criu/mem.c:700): Unable to remap a private vma: Invalid argument":                              "memory",
		"criu/cr-restore.c:700): Can't restore pgid (1/2->3): Invalid argument":                         "task",
		"criu/mount.c:1000): mnt: Can't mount at ./x: Operation not permitted":                          "permission",
		"criu/tty.c:600): tty: Can't get fd 3: No such device or address":                               "terminal",
		"criu/cr-restore.c:9): 12 exited, status=1\nError (criu/pipes.c:1): x: No space left on device": "disk-full",
	} {
		if f := DiagnoseText(strings.NewReader("(00.053810)      1: Error (" + message + "\n")); f.Code != code || f.Cause == "" || f.Remedy == "" {
			t.Errorf("%s\nhas the code %q: %+v", message, f.Code, f)
		}
	}
}

// A log of a restore, by CRIU 4.2.1, that the caller refused.
const refused = `(00.010101) Warn  (criu/kerndat.c:1290): Can't keep kdat cache on non-tempfs
(00.021214) Error (criu/util.c:1437): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.034519) Warn  (criu/cr-restore.c:1043): Set CLONE_PARENT | CLONE_NEWPID but it might cause restore problem,because not all kernels support such clone flags combinations!
(00.184722) Error (criu/cr-service.c:210): RPC client reported script error
(00.184730) Error (criu/action-scripts.c:60): One of more action scripts failed
(00.184741) Error (criu/cr-restore.c:2100): Aborting restore due to post-restore script ret code -52
(00.200012) Error (criu/cr-restore.c:2289): Restoring FAILED.
`

func TestWarningsWhereAllGoesWellAreNoCause(t *testing.T) {
	if f := DiagnoseText(strings.NewReader(refused)); len(f.Lines) > 0 || f.Code != "" || f.Cause != "" {
		t.Errorf("the caller's own refusal: %+v", f)
	}
	const cause = "(00.1) Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 5): Address already in use\n"
	_, rest, _ := strings.Cut(refused, "(00.184722)")
	f := DiagnoseText(strings.NewReader(refused[:strings.Index(refused, "(00.184722)")] + cause + "(00.184722)" + rest))
	if f.Code != "address-taken" || len(f.Lines) != 1 || !strings.Contains(f.Lines[0], "Can't bind") {
		t.Errorf("%+v", f)
	}
}

func TestTheFirstKnownLineIsTheCauseAndTheLastTenAreQuoted(t *testing.T) {
	var log strings.Builder
	fmt.Fprintln(&log, "(00.000001) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted")
	fmt.Fprintln(&log, "(00.000002) Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 5a3")
	for i := range 20 {
		fmt.Fprintf(&log, "(00.100000) Dumping %d\n(00.100001) Error (criu/x.c:1): Can't dump file %d of that type\n", i, i)
	}
	fmt.Fprintln(&log, "(00.200000) Error (criu/cr-dump.c:1975): Dumping FAILED.")
	f := DiagnoseText(strings.NewReader(log.String()))
	if !strings.Contains(f.Cause, "Multipath") {
		t.Errorf("cause %q", f.Cause)
	}
	if len(f.Lines) != maxLines || !strings.Contains(f.Lines[0], "file 10 ") || !strings.Contains(f.Lines[9], "file 19 ") {
		t.Errorf("lines %q", f.Lines)
	}
}

func TestAHugeLogIsReadAtItsEndAndLongLinesAreCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dump.log")
	early := "Error (criu/x.c:1): early\n"
	late := "Error (criu/x.c:1): late " + strings.Repeat("x", 3*maxLine) + "\nError (criu/x.c:2): last"
	if err := os.WriteFile(path, []byte(early+strings.Repeat("debug\n", maxLogRead/6)+late), 0o600); err != nil {
		t.Fatal(err)
	}
	f := Diagnose(path)
	if len(f.Lines) != 2 || !strings.Contains(f.Lines[0], "late") || len(f.Lines[0]) > maxLine || !strings.HasSuffix(f.Lines[1], "last") {
		t.Errorf("%d lines", len(f.Lines))
	}
}

func TestAMissingLogIsSaid(t *testing.T) {
	f := Diagnose(filepath.Join(t.TempDir(), "none"))
	if len(f.Lines) != 1 || f.Cause != "" {
		t.Errorf("got %+v", f)
	}
}

func TestAnErrorTellsTheCauseBeforeTheLines(t *testing.T) {
	base := errors.New("base")
	for want, e := range map[string]*Error{
		"criu dump: base":               {Op: "dump", Err: base},
		"criu dump: base: line":         {Op: "dump", Err: base, Failure: Failure{Lines: []string{"line", "more"}}},
		"criu dump: base: cause":        {Op: "dump", Err: base, Failure: Failure{Lines: []string{"line"}, Cause: "cause", known: true}},
		"criu dump: base: a part: line": {Op: "dump", Err: base, Failure: Failure{Lines: []string{"line"}, Cause: "a part"}},
	} {
		if e.Error() != want || !errors.Is(e, base) {
			t.Errorf("got %q, want %q", e, want)
		}
	}
}

func FuzzDiagnose(f *testing.F) {
	f.Add("(00.1) Error (criu/sk-inet.c:137): inet: Unsupported proto 262\n(00.2) Warn  (x): y\n")
	f.Fuzz(func(t *testing.T, log string) {
		got := DiagnoseText(strings.NewReader(log))
		if len(got.Lines) > maxLines {
			t.Errorf("%d lines", len(got.Lines))
		}
		for _, line := range got.Lines {
			if len(line) > maxLine {
				t.Errorf("a line of %d bytes", len(line))
			}
		}
	})
}
