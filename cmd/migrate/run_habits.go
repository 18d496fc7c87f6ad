package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// These flags mean files, as srun's do. Users of podman and docker type them for a variable and a
// terminal, and would get a file of that name.

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)

// checkHabits refuses a -e or -i that names no file but what another program takes there.
func (o *runOptions) checkHabits(cwd string, environ []string) error {
	if variable.MatchString(o.errors) {
		return fmt.Errorf("-e takes a file for stderr, and %q looks like a variable: `migrate run --env %s …` sets it, `-e ./%s` is the file", o.errors, o.errors, o.errors)
	}
	isVariable := func(s string) bool { return strings.HasPrefix(s, o.errors+"=") }
	if o.errors != "" && slices.ContainsFunc(environ, isVariable) && !exists(cwd, o.errors) {
		return fmt.Errorf("-e takes a file for stderr, and %q is a variable: a job has all of your environment, `migrate run --env %s …` sets one, `-e ./%s` is the file", o.errors, o.errors, o.errors)
	}
	if looksLikeFlags(o.input) && !exists(cwd, o.input) {
		return fmt.Errorf("-i takes a file for stdin, and there is none called %q: a job has no terminal; `migrate run -i FILE …` reads a file, and `migrate exec JOB …` passes its stdin on", o.input)
	}
	return nil
}

// looksLikeFlags tells whether the value of -i is the rest of -it, -itd and the like, or the next flag.
func looksLikeFlags(s string) bool {
	return s != "" && (s[0] == '-' || strings.Trim(s, "dit") == "")
}

func exists(cwd, name string) bool {
	_, err := os.Lstat(filepath.Join(cwd, name))
	return !errors.Is(err, os.ErrNotExist)
}
