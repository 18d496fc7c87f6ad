package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReportWritesTheNamedFile(t *testing.T) {
	a := newFakeAgent(t)
	a.record = exampleMove()
	dir := t.TempDir()
	for args, file := range map[string]string{"": "m0123456789abcdef.html", "-o x.html": "x.html", "-o " + dir + "/y.html": "y.html", "-o - ": ""} {
		for range 2 { // the second one replaces the first
			c, out, errs := newCLI(a)
			c.getwd = func() (string, error) { return dir, nil }
			if code := c.execute(t.Context(), strings.Fields("report "+args+" m0123456789abcdef")); code != 0 {
				t.Fatalf("%s: exit %d, %s", args, code, errs)
			}
			page := out.String()
			if file != "" {
				data, err := os.ReadFile(filepath.Join(dir, file))
				if err != nil || !strings.HasSuffix(strings.TrimSpace(out.String()), file) {
					t.Fatalf("%s: %v, said %q", args, err, out)
				}
				page = string(data)
			}
			if !strings.HasPrefix(page, "<!DOCTYPE html>") || !strings.HasSuffix(page, "</html>\n") || strings.Count(page, "</html>") != 1 {
				t.Errorf("%s: no whole page: %.80s", args, page)
			}
		}
	}
	c, _, errs := newCLI(a)
	if code := c.execute(t.Context(), []string{"report", "mffffffffffffffff"}); code != 1 || !strings.Contains(errs.String(), "no move") {
		t.Errorf("an unknown move: exit %d, %s", code, errs)
	}
}
