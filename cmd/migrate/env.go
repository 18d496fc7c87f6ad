package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
)

// environment is the caller's own with what the files and then the entries set.
// Each is KEY=VALUE, or KEY for the caller's value of it.
func environment(own, files, entries []string) ([]string, error) {
	set := own
	for _, path := range files {
		lines, err := readEnvFile(path)
		if err == nil {
			set, err = mergeEnv(own, set, lines)
		}
		if err != nil {
			return nil, fmt.Errorf("--env-file %s: %w", path, err)
		}
	}
	set, err := mergeEnv(own, set, entries)
	if err != nil {
		return nil, fmt.Errorf("--env: %w", err)
	}
	return set, nil
}

// mergeEnv returns base with entries in it, each name once: programs disagree on
// which of two counts.
func mergeEnv(own, base, entries []string) ([]string, error) {
	at := map[string]int{}
	var merged []string
	put := func(e string) {
		key, _, _ := strings.Cut(e, "=")
		if i, ok := at[key]; ok {
			merged[i] = e
			return
		}
		at[key] = len(merged)
		merged = append(merged, e)
	}
	for _, e := range base {
		put(e)
	}
	for _, e := range entries {
		key, _, complete := strings.Cut(e, "=")
		if key == "" {
			return nil, fmt.Errorf("%q is neither KEY=VALUE nor KEY", e)
		}
		if !complete {
			if e = valueOf(own, key); e == "" {
				continue
			}
		}
		put(e)
	}
	return merged, nil
}

// valueOf is key's entry in env, or "".
func valueOf(env []string, key string) string {
	for _, e := range env {
		if strings.HasPrefix(e, key+"=") {
			return e
		}
	}
	return ""
}

// readEnvFile reads one entry per line; empty lines and those that begin with #
// count for nothing.
func readEnvFile(path string) (lines []string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	in := bufio.NewScanner(f)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		line := strings.TrimLeft(in.Text(), " \t")
		if line != "" && line[0] != '#' {
			lines = append(lines, line)
		}
	}
	return lines, in.Err()
}
