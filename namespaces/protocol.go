package namespaces

import (
	"fmt"
	"os"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/exactjson"
)

// The stages are told apart by their argument zero, so that no flag of the
// program can reach them.
const (
	stage1Name    = "migrate:stage-one"
	stage2Name    = "migrate:stage-two"
	execStageName = "migrate:exec-stage"
)

// The descriptors that the stages start with.
const (
	configFD     = 3
	reportFD     = 4
	selfFD       = 5 // this program
	linkFD       = 6 // of stage one, a socket: PID 1 one way, that it was taken the other
	innerMountFD = 7 // and up: the mounts of late
)

// exitWithReport tells the parent why a stage failed and exits.
func exitWithReport(err error) {
	if err == nil {
		os.Exit(0)
	}
	line := strings.ReplaceAll(err.Error(), "\n", "; ")
	_, _ = unix.Write(reportFD, []byte(failedPrefix+line+"\n"))
	os.Exit(125)
}

// failedPrefix begins the report of a failure.
const failedPrefix = "error "

// StartError is a command that could not be started. Reason is the step and the kernel's answer.
type StartError struct{ Reason string }

func (e *StartError) Error() string { return "start the job: " + e.Reason }

// cleanReason is the text of a report, on one line and printable.
func cleanReason(said string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == utf8.RuneError {
			return '?'
		}
		return r
	}, strings.TrimSpace(strings.TrimPrefix(said, failedPrefix)))
}

// maxReport bounds what is read of a report, in bytes.
const maxReport = 4096

func readConfig() (Config, error) {
	var cfg Config
	f := os.NewFile(configFD, "config")
	if err := exactjson.NewDecoder(f).Decode(&cfg); err != nil {
		return cfg, fmt.Errorf("read the configuration: %w", err)
	}
	return cfg, f.Close()
}

// initReceived is what stage one waits for before it sends the configuration on.
const initReceived = 1
