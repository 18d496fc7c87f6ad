package identity

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/testenv"
)

// inside starts a shell script as PID 1 of namespaces of its own, in a cgroup, and waits
// until it has said that it is ready.
func inside(t *testing.T, prefix, script string, flags ...string) Place {
	t.Helper()
	testenv.NeedRoot(t)
	cg, err := cgroup.New(os.Getpid(), prefix+strconv.Itoa(os.Getpid()))
	if err != nil {
		testenv.Missing(t, "no cgroups here: %v", err)
	}
	t.Cleanup(func() { eventually(t, cg.Remove) })
	args := append([]string{"--fork", "--kill-child", "--pid", "--mount-proc", "--ipc", "--uts", "--net", "--time", "--cgroup"}, flags...)
	cmd := exec.Command("unshare", append(args, "sh", "-c", "read line; "+script)...)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	cmd.Stderr = os.Stderr
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // its child goes with it
		_ = cmd.Wait()
	})
	init := childOf(t, cmd.Process.Pid)
	must(t, cg.Enter(init))
	_, err = in.Write([]byte("go\n"))
	must(t, err)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the script says %q, %v", line, err)
	}
	return Place{Init: init, Cgroup: cg}
}

func childOf(t *testing.T, pid int) (child int) {
	t.Helper()
	eventually(t, func() error {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(pid) + "/children")
		if err == nil {
			child, err = strconv.Atoi(strings.TrimSpace(string(data)))
		}
		if err == nil && comm(child) != "sh" {
			err = errors.New("it has not become the shell yet")
		}
		return err
	})
	return child
}

func comm(pid int) string {
	data, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/comm") // none of a process that has ended
	return strings.TrimSpace(string(data))
}

func eventually(t *testing.T, try func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatal(err)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAJobIsWhollyInItsPlaceAndNobodyElseIs(t *testing.T) {
	const two = "sleep 1000 & echo ready; wait"
	for name, c := range map[string]struct {
		script string
		flags  []string
		after  func(t *testing.T, p *Place)
		says   string // "" = all is well
		nests  int
	}{
		"all is well":        {script: two},
		"CRIU is beside":     {script: two, after: func(t *testing.T, p *Place) { p.Beside = stranger(t, *p) }},
		"a stranger":         {script: two, after: func(t *testing.T, p *Place) { stranger(t, *p) }, says: "a task that is not in the job's pid namespace"},
		"a task elsewhere":   {script: two, after: leave, says: "has a place outside of the cgroup"},
		"a namespace more":   {script: "unshare --uts sh -c 'echo ready; exec sleep 1000' & wait", says: "as its uts namespace uts:"},
		"a nested namespace": {script: "unshare --pid --fork sh -c 'echo ready; exec sleep 1000' & wait", says: "not in the job's pid namespace"},
		"mounts of its own":  {script: "unshare --mount sh -c 'echo ready; exec sleep 1000' & wait", nests: 1},
		"mounts of another user namespace": {says: "as its mnt namespace one of another user namespace, and one of the job's is allowed",
			script: "unshare --user --mount sh -c 'exec sleep 1000' & until [ \"$(cat /proc/$!/comm)\" = sleep ]; do :; done; nsenter --mount --target $! sh -c \"kill -KILL $!; echo ready; exec sleep 1000\" & wait"},
		"children elsewhere": {script: "unshare --pid sh -c 'echo ready; read none'", says: "pid_for_children"},
		"a user namespace":   {script: two, flags: []string{"--user", "--map-root-user"}, says: "as its user namespace one of its own, and the node's is allowed"},
		"none":               {script: two, after: func(_ *testing.T, p *Place) { p.UserNS = true }, says: "as its user namespace the node's, and one of its own is allowed"},
	} {
		t.Run(name, func(t *testing.T) {
			p := inside(t, "mg-place-"+strconv.Itoa(len(name))+"-", c.script, c.flags...)
			if c.after != nil {
				c.after(t, &p)
			}
			j, err := p.Look()
			if c.says == "" && (err != nil || len(j.Threads) != 2 || len(j.Nested) != c.nests) || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
				t.Errorf("%d threads, %v nested, %v; want %q", len(j.Threads), j.Nested, err, c.says)
			}
		})
	}
}

// stranger puts a process of the node's namespaces into the job's cgroup.
func stranger(t *testing.T, p Place) int {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // nothing depends on how it ends
		_ = cmd.Wait()
	})
	must(t, p.Cgroup.Enter(cmd.Process.Pid))
	return cmd.Process.Pid
}

// leave moves a task of the job to where we are.
func leave(t *testing.T, p *Place) {
	t.Helper()
	all, err := membersOf(p.Init)
	must(t, err)
	here, err := cgroup.Of(os.Getpid())
	must(t, err)
	must(t, cgroup.Join(all[len(all)-1].host, here))
}

func TestNamespacesOfTheNodeAreNotAJobsOwn(t *testing.T) {
	cmd := exec.Command("sleep", "1000")
	must(t, cmd.Start())
	defer func() {
		_ = cmd.Process.Kill() // nothing depends on how it ends
		_ = cmd.Wait()
	}()
	var d Differences
	if err := (Place{Init: cmd.Process.Pid}).ownNamespaces(&d); err != nil {
		t.Fatal(err)
	}
	if len(d) != len(namespaces.Kinds)-1 { // all but the user namespace
		t.Errorf("%v", d)
	}
}
