package namespaces

import (
	"fmt"
	"os"
	"runtime"
)

// A stage stays on its first thread: /proc/PID/ns shows the namespaces of that thread. Only an
// init function is sure to run there.
func init() {
	switch os.Args[0] {
	case stage1Name, stage2Name, execStageName:
		runtime.LockOSThread()
	}
}

// Stage runs one of this package's stages if the process was started as one, and does not return
// then. A main function calls it first.
func Stage() {
	switch os.Args[0] {
	case stage1Name:
		exitWithReport(stage1())
	case stage2Name:
		exitWithReport(stage2())
	case execStageName:
		exitWithReport(execStage1())
	}
	if len(os.Args) < 2 || os.Args[1] != restoreEnvName {
		return
	}
	if err := enterRestoreEnv(); err != nil { // another program starts it for us
		fmt.Fprintln(os.Stderr, "prepare the restore:", err)
		os.Exit(125)
	}
}
