package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/migrate-hpc/migrate/agent/api"
	"github.com/migrate-hpc/migrate/job"
)

// requested is the request that a detached run with these flags makes.
func requested(t *testing.T, args ...string) (api.RunRequest, string, int) {
	t.Helper()
	a := newFakeAgent(t)
	c, out, errs := newCLI(a)
	c.environ = []string{"HOME=/home/ada", "A=1"}
	code := c.execute(t.Context(), append([]string{"--socket", a.socket, "run", "-d"}, args...))
	var req api.RunRequest
	if code == 0 {
		if err := json.Unmarshal(a.request, &req); err != nil {
			t.Fatal(err)
		}
		wantText(t, "stdout", out, "jabcdefghij\n")
	}
	return req, errs.String(), code
}

func TestRunFlagsBecomeTheSpec(t *testing.T) {
	env := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(env, []byte("# ours\n\nB=2\nA=from file\nC=c=c\nUNSET\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := func(change func(*job.Spec)) job.Spec {
		s := job.Spec{Args: []string{"true"}, WorkDir: "/home/ada/run", Env: []string{"HOME=/home/ada", "A=1"}, Network: job.Network{Mode: "none"}}
		change(&s)
		return s
	}
	for line, change := range map[string]func(*job.Spec){
		"-- true":                     func(*job.Spec) {},
		"true":                        func(*job.Spec) {},
		"true -n 8 --name x":          func(s *job.Spec) { s.Args = []string{"true", "-n", "8", "--name", "x"} },
		"--name sim true":             func(s *job.Spec) { s.Name = "sim" },
		"--hostname h true":           func(s *job.Spec) { s.Hostname = "h" },
		"-w ../data true":             func(s *job.Spec) { s.WorkDir = "/home/ada/data" },
		"--root img true":             func(s *job.Spec) { s.Root, s.WorkDir = "/home/ada/run/img", "" },
		"--root /img -w /w true":      func(s *job.Spec) { s.Root, s.WorkDir = "/img", "/w" },
		"-i in true":                  func(s *job.Spec) { s.Stdin = "/home/ada/run/in" },
		"-o out true":                 func(s *job.Spec) { s.Stdout, s.Stderr = "/home/ada/run/out", "/home/ada/run/out" },
		"-o /o -e /e true":            func(s *job.Spec) { s.Stdout, s.Stderr = "/o", "/e" },
		"-e e true":                   func(s *job.Spec) { s.Stderr = "/home/ada/run/e" },
		"--env A=2 --env B= true":     func(s *job.Spec) { s.Env = []string{"HOME=/home/ada", "A=2", "B="} },
		"--env A --env NONE true":     func(*job.Spec) {},
		"--env-file " + env + " true": func(s *job.Spec) { s.Env = []string{"HOME=/home/ada", "A=from file", "B=2", "C=c=c"} },
		"--env-file " + env + " --env A=3 true": func(s *job.Spec) {
			s.Env = []string{"HOME=/home/ada", "A=3", "B=2", "C=c=c"}
		},
		"--bind data --bind /d:/mnt:ro --bind /e:/f:rw true": func(s *job.Spec) {
			s.Binds = []job.Bind{{Source: "/home/ada/run/data", Target: "/home/ada/run/data"}, {Source: "/d", Target: "/mnt", ReadOnly: true}, {Source: "/e", Target: "/f"}}
		},
		"--ulimit nofile=4096 --ulimit core=0:unlimited true": func(s *job.Spec) {
			s.Rlimits = []job.Rlimit{{Name: "nofile", Soft: 4096, Hard: 4096}, {Name: "core", Soft: 0, Hard: job.Unlimited}}
		},
		"--memory 2G --cpus 1.5 --pids-limit 64 true": func(s *job.Spec) { s.Limits = job.Limits{MemoryBytes: 2 << 30, CPUMilli: 1500, Pids: 64} },
		"--net br0 --address 10.0.0.7/24 --gateway 10.0.0.1 --mac 02:00:00:00:00:07 true": func(s *job.Spec) {
			s.Network = job.Network{Mode: "br0", Address: "10.0.0.7/24", Gateway: "10.0.0.1", MAC: "02:00:00:00:00:07"}
		},
		"--user-ns --init true": func(s *job.Spec) { s.UserNS, s.Init = true, true },
	} {
		t.Run(line, func(t *testing.T) {
			got, errs, code := requested(t, strings.Fields(line)...)
			if want := base(change); code != 0 || !reflect.DeepEqual(got.Spec, want) {
				t.Errorf("exit %d %s\ngot  %+v\nwant %+v", code, errs, got.Spec, want)
			}
			if got.Foreground {
				t.Error("a detached job is in the foreground")
			}
		})
	}
}

func TestRunUsageErrorsNameTheFlag(t *testing.T) {
	for line, word := range map[string]string{
		"":                                "the command to run",
		"--nonsense true":                 "--nonsense",
		"--memory 2X true":                "--memory",
		"--memory -1 true":                "--memory",
		"--memory nan true":               "--memory",
		"--cpus 0 true":                   "--cpus",
		"--cpus many true":                "--cpus",
		"--pids-limit -1 true":            "limits.pids",
		"--ulimit nofile true":            "--ulimit",
		"--ulimit nofile=a true":          "--ulimit",
		"--ulimit nofile=9:8 true":        "rlimits",
		"--bind a:b true":                 "--bind",
		"--bind a:/b:rx true":             "--bind",
		"--bind a:/b:ro:x true":           "--bind",
		"--env =x true":                   "--env",
		"--env-file /nowhere/at/all true": "--env-file",
		"--name a/b true":                 "name:",
		"--address 10.0.0.7/24 true":      "network:",
	} {
		if _, errs, code := requested(t, strings.Fields(line)...); code != api.ExitUsage || !strings.Contains(errs, word) || !strings.Contains(errs, "try: migrate run --help") {
			t.Errorf("%q: exit %d, %s", line, code, errs)
		}
	}
}

func TestRunSizesArePowersOf1024(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "1": 1, "512M": 512 << 20, "2g": 2 << 30, "1.5GiB": 3 << 29, "1kb": 1024, "3T": 3 << 40} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"0", "-1", "G", "1Q", "1GG", "inf", "9999999T"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q passed as %d", text, got)
		}
	}
}

func TestRunRefusesWhatOtherProgramsMeanByItsFlags(t *testing.T) {
	for line, hint := range map[string]string{
		"-e X=1 true":        "`migrate run --env X=1 …`",
		"-e A true":          "`migrate run --env A …`", // a variable of the caller's
		"-it true":           "`migrate exec JOB …`",
		"-itd true":          "`migrate exec JOB …`",
		"-i --name x true":   "`migrate run -i FILE …`",
		"-i -- true":         "`migrate run -i FILE …`",
		"-e ./X=1 true":      "",
		"-e A.err true":      "",
		"-e /dir/X=1 true":   "",
		"-i data true":       "",
		"-i ./t true":        "",
		"--error dir/t true": "",
	} {
		_, errs, code := requested(t, strings.Fields(line)...)
		if want := map[bool]int{true: 0, false: api.ExitUsage}[hint == ""]; code != want || !strings.Contains(errs, hint) {
			t.Errorf("%q: exit %d, %s", line, code, errs)
		}
	}
	if err := (&runOptions{input: "t"}).checkHabits(t.TempDir(), nil); err == nil {
		t.Error("-it is taken")
	}
	dir := t.TempDir()
	for _, name := range []string{"t", "A"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := (&runOptions{input: "t", errors: "A"}).checkHabits(dir, []string{"A=1"}); err != nil {
		t.Errorf("files that are there: %v", err)
	}
}

func TestRunWarnsOfWhatKeepsTheJobHere(t *testing.T) {
	a := newFakeAgent(t)
	a.job.Obstacles = []api.Finding{{Code: "rlimits-withheld", Cause: "the cause", Remedy: "the remedy"}}
	a.exit(0, 0)
	for line, warns := range map[string]bool{"run -d true": true, "run true": true, "run -q true": false} {
		c, _, errs := newCLI(a)
		if code := c.execute(t.Context(), append([]string{"--socket", a.socket}, strings.Fields(line)...)); code != 0 {
			t.Errorf("%s: exit %d, %s", line, code, errs)
		}
		if strings.Contains(errs.String(), "warning") != warns || warns && !strings.Contains(errs.String(), "the cause (rlimits-withheld); the remedy") {
			t.Errorf("%s: %s", line, errs)
		}
	}
}
