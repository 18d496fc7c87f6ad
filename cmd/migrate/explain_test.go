package main

import (
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
)

func TestExplainTellsTheCodeTheCauseAndTheLines(t *testing.T) {
	const line = "(00.1) Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 5): Address already in use"
	for log, want := range map[string][]string{
		"(00.0) fine\n" + line + "\n(00.2) Error (criu/cr-restore.c:1): Restoring FAILED.\n":                     {"address-taken: ", "    give the job a network", "    " + line},
		"(00.1) Error (criu/files-reg.c:1): File \x1b[2J has bad size 1 (expect 2)\n":                            {"file-differs: ", "    bring the file", `\u001b[2J has bad size`},
		"(00.1) Error (criu/sk-unix.c:1): unix: External socket is used. Consider using --ext-unix-sk option.\n": {"socket-outside: ", "    close", "External socket is used\n"},
	} {
		c, out, errs := newCLI(nil)
		c.in = strings.NewReader(log)
		if code := c.execute(t.Context(), []string{"explain", "-"}); code != 0 {
			t.Errorf("exit %d, %s", code, errs)
		}
		for _, words := range want {
			if !strings.Contains(out.String(), words) {
				t.Errorf("%q is explained without %q:\n%s", log, words, out)
			}
		}
		if strings.Contains(out.String(), "\x1b") {
			t.Errorf("an escape reaches the terminal: %q", out)
		}
	}
	c, _, errs := newCLI(nil)
	c.in = strings.NewReader("(00.1) Warn  (criu/x.c:1): all is well\n")
	if code := c.execute(t.Context(), []string{"explain", "-"}); code != api.ExitFailed || !strings.Contains(errs.String(), "tells of no error") {
		t.Errorf("a log without errors: exit %d, %s", code, errs)
	}
}
