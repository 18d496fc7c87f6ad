package oracle

import (
	"bytes"
	"context"
	"crypto/sha256"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/migrate-hpc/migrate/testenv"
)

//go:embed oracle.c
var oracleSource []byte

//go:embed breaker.c
var breakerSource []byte

//go:embed calls.c
var callsSource []byte

// ErrNoCompiler is wrapped by Build's error where gcc is not installed.
var ErrNoCompiler = errors.New("gcc is not installed: apt-get install gcc libc6-dev")

// compile is the command that makes the program from standard input.
var compile = []string{"gcc", "-static", "-O2", "-pthread", "-Wall", "-x", "c", "-", "-o"}

// Build returns the path of the oracle, a static program, made of oracle.c if no earlier
// call has: os.UserCacheDir()/migrate/oracle-HASH. Several processes may build at once.
func Build(ctx context.Context) (string, error) { return build(ctx, "oracle", oracleSource) }

// BuildBreaker is Build for the breaker.
func BuildBreaker(ctx context.Context) (string, error) {
	return build(ctx, "breaker", breakerSource)
}

// BuildCalls is Build for calls.c, a program of threads that wait in system calls.
func BuildCalls(ctx context.Context) (string, error) { return build(ctx, "calls", callsSource) }

func build(ctx context.Context, name string, source []byte) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	dir := filepath.Join(cache, "migrate")
	key := sha256.Sum256(fmt.Appendf(nil, "%q%s", compile, source))
	path := filepath.Join(dir, fmt.Sprintf("%s-%x", name, key[:8]))
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	if err := compileTo(ctx, source, path); err != nil {
		return "", fmt.Errorf("build %s: %w", name, err)
	}
	return path, nil
}

// compileTo compiles source into path, which is there as a whole or not at all.
func compileTo(ctx context.Context, source []byte, path string) error {
	gcc, err := exec.LookPath(compile[0])
	if err != nil {
		return errors.Join(ErrNoCompiler, err)
	}
	work, err := os.MkdirTemp(filepath.Dir(path), "build-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	out := filepath.Join(work, "program")
	cmd := exec.CommandContext(ctx, gcc, append(compile[1:len(compile):len(compile)], out)...)
	cmd.Stdin = bytes.NewReader(source)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, text)
	}
	return os.Rename(out, path)
}

// Need is Build for a test: without a compiler the test is skipped, or fails if the
// environment has CI=true.
func Need(t testing.TB) string {
	t.Helper()
	path, err := Build(t.Context())
	wantBuilt(t, err)
	return path
}

// NeedBreaker is BuildBreaker for a test, as Need is Build.
func NeedBreaker(t testing.TB) string {
	t.Helper()
	path, err := BuildBreaker(t.Context())
	wantBuilt(t, err)
	return path
}

// NeedCalls is BuildCalls for a test, as Need is Build.
func NeedCalls(t testing.TB) string {
	t.Helper()
	path, err := BuildCalls(t.Context())
	wantBuilt(t, err)
	return path
}

func wantBuilt(t testing.TB, err error) {
	t.Helper()
	if errors.Is(err, ErrNoCompiler) {
		testenv.Missing(t, "%v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
}
