// Package demo runs `migrate demo` as its users do, from the built binary, and
// looks for what it leaves behind. The demo judges the move by itself; what it
// cannot show is how it ends, so that is what is tested here: the exit status,
// the time it takes, and that no process, cgroup or directory outlives it, also
// when it is interrupted.
//
// $MIGRATE_BIN names the binary; without it one is built. Without root or CRIU
// the tests are skipped, and fail where $CI is true.
package demo
