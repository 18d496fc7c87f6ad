package main

import (
	"fmt"
	"os"
	"strconv"
	"time"
)

// usageError is about the environment variables.
type usageError string

func (e usageError) Error() string { return string(e) }

// Bounds of the options.
const (
	maxRounds = 100
	maxMiB    = 64 << 10
	runTime   = 2 * time.Hour
)

type options struct {
	only   string // name of a row
	rounds int
	mib    int64 // no job is larger; 0: no bound
	json   string
}

func numberFromEnv(name string, absent, most int64) (int64, error) {
	text := os.Getenv(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 1 || n > most {
		return 0, usageError(fmt.Sprintf("%s=%s: want a number from 1 to %d", name, text, most))
	}
	return n, nil
}
