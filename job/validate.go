package job

import (
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Bounds of a specification. It travels in one control message of at most 1 MiB.
const (
	MaxCommandBytes = 512 << 10 // arguments and environment together
	MaxEntries      = 16 << 10  // arguments, and environment variables
	MaxBinds        = 256
	MaxGroups       = 65536 // NGROUPS_MAX, include/uapi/linux/limits.h
	maxPath         = 4095  // PATH_MAX without its NUL
	maxName         = 64
	maxHostname     = 63
	noID            = ^uint32(0) // (uid_t)-1 means "leave it" to the kernel
)

// SpecError is one thing that is wrong with a specification.
type SpecError struct {
	Field   string // as in JSON
	Problem string // what is wrong, and why it matters
	Remedy  string // what to type
}

func (e *SpecError) Error() string {
	return fmt.Sprintf("%s: %s; %s", e.Field, e.Problem, e.Remedy)
}

// rlimits are the limits of asm-generic/resource.h.
var rlimits = []string{
	"cpu", "fsize", "data", "stack", "core", "rss", "nproc", "nofile", "memlock", "as",
	"locks", "sigpending", "msgqueue", "nice", "rtprio", "rttime",
}

// Validate reports everything that is wrong with the specification, each a SpecError, joined. It looks
// at the specification only: whether paths, bridges and ids exist on a node is for preflight.
func (s Spec) Validate() error {
	return errors.Join(
		s.checkNames(),
		s.checkCommand(),
		s.checkUser(),
		s.checkPaths(),
		s.checkBinds(),
		s.checkRlimits(),
		s.checkLimits(),
		s.Network.check(),
	)
}

func wrong(field, remedy, problem string, args ...any) error {
	return &SpecError{Field: field, Problem: fmt.Sprintf(problem, args...), Remedy: remedy}
}

func (s Spec) checkNames() error {
	var errs []error
	if len(s.Name) > maxName || !onlyHas(s.Name, nameChars) {
		errs = append(errs, wrong("name", "use `migrate run --name` with such a name, or leave it out",
			"%.80q is not at most %d of A-Z a-z 0-9 . _ -, so tables and files could not show it", s.Name, maxName))
	}
	if !validHostname(s.Hostname) {
		errs = append(errs, wrong("hostname", "use `migrate run --hostname` with such a name, or leave it out",
			"%.80q is no host name: at most %d letters, digits, dots and hyphens, no label empty or with a hyphen at its end", s.Hostname, maxHostname))
	}
	return errors.Join(errs...)
}

const nameChars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

func onlyHas(s, chars string) bool { return strings.Trim(s, chars) == "" }

func validHostname(h string) bool {
	if h == "" {
		return true
	}
	if len(h) > maxHostname {
		return false
	}
	for label := range strings.SplitSeq(h, ".") {
		if label == "" || label[0] == '-' || label[len(label)-1] == '-' ||
			!onlyHas(label, nameChars) || strings.Contains(label, "_") {
			return false
		}
	}
	return true
}

func (s Spec) checkCommand() error {
	const command = "put the command after --: `migrate run -- COMMAND ARGS`"
	var errs []error
	if len(s.Args) == 0 || s.Args[0] == "" {
		errs = append(errs, wrong("args", command, "there is no command to run"))
	}
	if len(s.Args) > MaxEntries || len(s.Env) > MaxEntries || size(s.Args)+size(s.Env) > MaxCommandBytes {
		errs = append(errs, wrong("args", "put long lists into a file, or start it with a short environment: `env -i migrate run …`",
			"arguments and environment hold %d bytes in %d entries, above %d bytes or %d entries each",
			size(s.Args)+size(s.Env), len(s.Args)+len(s.Env), MaxCommandBytes, MaxEntries))
	}
	if i := slices.IndexFunc(s.Args, unfit); i >= 0 {
		errs = append(errs, wrong("args", command, "argument %d has a NUL byte, which the kernel takes for its end", i))
	}
	for _, e := range s.Env {
		if key, _, ok := strings.Cut(e, "="); !ok || key == "" || unfit(e) {
			errs = append(errs, wrong("env", "use `migrate run --env KEY=VALUE`", "%.80q is not KEY=VALUE without NUL bytes", e))
		}
	}
	return errors.Join(errs...)
}

func size(list []string) (n int) {
	for _, s := range list {
		n += len(s) + 1
	}
	return n
}

// unfit strings cannot be given to the kernel: it takes a NUL byte for their end.
func unfit(s string) bool { return strings.IndexByte(s, 0) >= 0 }

func (s Spec) checkUser() error {
	var errs []error
	if s.UID == noID || s.GID == noID || slices.Contains(s.Groups, noID) {
		errs = append(errs, wrong("uid", "start the job as an existing user: `id USER` shows whether there is one", "the id %d means no user to the kernel", noID))
	}
	if len(s.Groups) > MaxGroups {
		errs = append(errs, wrong("groups", "start the job as a user in fewer groups; `id USER` lists them",
			"%d groups, and the kernel holds %d", len(s.Groups), MaxGroups))
	}
	return errors.Join(append(errs, s.checkBase())...)
}

func (s Spec) checkPaths() error {
	var errs []error
	for _, p := range []struct{ field, path, flag string }{
		{"work_dir", s.WorkDir, "--workdir"}, {"root", s.Root, "--root"},
		{"stdin", s.Stdin, "-i"}, {"stdout", s.Stdout, "-o"}, {"stderr", s.Stderr, "-e"},
	} {
		if p.path != "" {
			errs = append(errs, checkPath(p.field, p.path, p.flag))
		}
	}
	return errors.Join(errs...)
}

func checkPath(field, p, flag string) error {
	switch {
	case !path.IsAbs(p):
		return wrong(field, "use `migrate run "+flag+" /PATH`", "%.80q is not absolute, and the job has no directory of yours to start from", p)
	case unfit(p) || len(p) > maxPath:
		return wrong(field, "use `migrate run "+flag+" /PATH`", "%.80q has a NUL byte, or is longer than %d bytes", p, maxPath)
	case path.Clean(p) != p && path.Clean(p)+"/" != p:
		return wrong(field, "use `migrate run "+flag+" "+path.Clean(p)+"`",
			"%.80q holds . or .. or //, and its meaning could change from node to node", p)
	}
	return nil
}
