package shim

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/exactjson"
	"github.com/migrate-hpc/migrate/job"
	"github.com/migrate-hpc/migrate/namespaces"
	"github.com/migrate-hpc/migrate/namespaces/cgroup"
	"github.com/migrate-hpc/migrate/namespaces/network"
)

// Config tells a shim what it is for. It lies in the shim's run directory, which so says what the
// process is about.
type Config struct {
	Job      job.ID            `json:"job"`
	Records  string            `json:"records"` // the directory of the job store
	RunDir   string            `json:"run_dir"` // volatile files: socket, mount point of the root
	Cgroup   cgroup.Cgroup     `json:"cgroup"`  // the job's own; exists already
	CRIU     string            `json:"criu"`
	KdatDir  string            `json:"kdat_dir,omitempty"`
	Join     map[string]string `json:"join,omitempty"`   // cgroups that the shim enters, by hierarchy; none = stays in the agent's
	Launch   *Launch           `json:"launch,omitempty"` // nil: wait to be told to restore
	Output   *Output           `json:"output,omitempty"` // nil: its output is not limited
	LinkName string            `json:"link_name,omitempty"`
	// RestoreEnv is the environment of CRIU if the job is to be restored.
	RestoreEnv *namespaces.RestoreEnv `json:"chamber,omitempty"`
	// Store is the page store of a job that is on its way here. A waiting shim reads its log along.
	// Empty for none.
	Store string `json:"store,omitempty"`
}

// Launch is a job that is started anew.
type Launch struct {
	Namespaces namespaces.Config  `json:"namespaces"`
	Interface  *network.Interface `json:"interface,omitempty"`
	// Within is how long it may take until the command runs.
	Within time.Duration `json:"within"`
}

// Output bounds what the job prints.
type Output struct {
	Dir   string `json:"dir"`   // of its files; may be renamed when the shim has started
	Limit int64  `json:"limit"` // bytes; 0 is none but the room that there is
	UID   uint32 `json:"uid"`   // the job's user
}

// LogName is the shim's log, in the directory that Start was given for it.
const LogName = "shim.log"

const (
	configName  = "shim.json"
	socketName  = "shim.sock"
	resumedName = "resumed"
)

// RootDir is where the root of the job is bound while it is built.
func (c Config) RootDir() string { return filepath.Join(c.RunDir, "root") }

// MountDir is where CRIU finds the i-th of the private mounts of a job that is restored. They are
// mounted in a mount namespace of their own.
func (c Config) MountDir(i int) string { return filepath.Join(c.RunDir, fmt.Sprintf("mount-%d", i)) }

// BindDir is where CRIU finds the i-th of the node's mounts and binds of a job that is
// restored.
func (c Config) BindDir(i int) string { return filepath.Join(c.RunDir, fmt.Sprintf("bind-%d", i)) }

func (c Config) write() error {
	for _, dir := range []string{c.RunDir, c.RootDir()} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return err
		}
	}
	data, err := exactjson.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(c.RunDir, configName), data, 0o600)
}

// CgroupOf is the cgroup of the job whose shim has this run directory.
func CgroupOf(runDir string) (cgroup.Cgroup, error) {
	c, err := readConfig(runDir)
	return c.Cgroup, err
}

func readConfig(runDir string) (Config, error) {
	var c Config
	data, err := os.ReadFile(filepath.Join(runDir, configName))
	if err != nil {
		return c, err
	}
	if err := exactjson.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("%s: %w", configName, err)
	}
	return c, nil
}
