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
		f := diagnose(strings.NewReader("(00.053810) " + message + "\n"))
		if !strings.Contains(f.Cause, word) || f.Remedy == "" {
			t.Errorf("%s\nis explained as %q, %q", message, f.Cause, f.Remedy)
		}
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
	f := diagnose(strings.NewReader(log.String()))
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
		"criu dump: base":        {Op: "dump", Err: base},
		"criu dump: base: line":  {Op: "dump", Err: base, Failure: Failure{Lines: []string{"line", "more"}}},
		"criu dump: base: cause": {Op: "dump", Err: base, Failure: Failure{Lines: []string{"line"}, Cause: "cause"}},
	} {
		if e.Error() != want || !errors.Is(e, base) {
			t.Errorf("got %q, want %q", e, want)
		}
	}
}

func FuzzDiagnose(f *testing.F) {
	f.Add("(00.1) Error (criu/sk-inet.c:137): inet: Unsupported proto 262\n(00.2) Warn  (x): y\n")
	f.Fuzz(func(t *testing.T, log string) {
		got := diagnose(strings.NewReader(log))
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
