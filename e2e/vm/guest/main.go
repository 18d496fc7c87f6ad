//go:build linux

// Guest is process 1 of the machines that the tests start: it mounts the disk, sets
// the machine up and then does what it is told over HTTP (package api). The tests
// put it into the first RAM disk, so that the disk image need not change with it.
//
//	process 1: mounts, modules, then only reaps orphans
//	   └ "serve", a child of its own that may wait for its own children undisturbed
package main

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

func main() {
	step := boot
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		step = serve
	}
	if err := step(); err != nil {
		fmt.Fprintln(os.Stderr, "guest:", err)
	}
	if os.Getpid() == 1 {
		unix.Sync()
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF) // no process is left to report it
	}
	os.Exit(1)
}

func boot() error {
	if err := os.Setenv("PATH", searchPath); err != nil { // programs are looked up in it, too
		return err
	}
	for _, step := range []func() error{early, await, disk, switchRoot, mounts, links} {
		if err := step(); err != nil {
			return err
		}
	}
	server := exec.Command("/proc/self/exe", "serve")
	server.Stdout, server.Stderr = os.Stdout, os.Stderr
	server.Env = environment(nil)
	if err := server.Start(); err != nil {
		return err
	}
	return reap(server.Process.Pid)
}

// reap waits for every process that has lost its parent, until pid ends.
func reap(pid int) error {
	for {
		var status unix.WaitStatus
		switch got, err := unix.Wait4(-1, &status, 0, nil); {
		case err == unix.EINTR:
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case got == pid:
			return fmt.Errorf("the server ended: %v", status)
		}
	}
}

func serve() error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) })
	mux.HandleFunc("POST /configure", answer(configure))
	mux.HandleFunc("PUT /clock", answer(setClock))
	mux.HandleFunc("POST /exec", execute)
	mux.HandleFunc("PUT /file", answer(putFile))
	mux.HandleFunc("GET /file", getFile)
	mux.HandleFunc("POST /tty", terminal)
	server := http.Server{Addr: fmt.Sprintf(":%d", api.Port), Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return server.ListenAndServe()
}

// answer makes a handler of what either works or says why not.
func answer(do func(*http.Request) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := do(r); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}

const searchPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func environment(more []string) []string {
	return append([]string{"PATH=" + searchPath, "HOME=/root", "TERM=linux"}, more...)
}
