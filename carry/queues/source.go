package queues

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/mqueue"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// Check refuses a job of which a task waits to be told of messages.
func Check(init int) (*carry.Obstacle, error) {
	name, err := mqueue.Notified(init)
	if err != nil || name == "" {
		return nil, err
	}
	return &carry.Obstacle{
		Code:   "mq-notify",
		Cause:  fmt.Sprintf("a task asked to be notified of messages in the queue /%s (mq_notify), which no checkpoint can carry", name),
		Remedy: "have the program take its request back (mq_notify with NULL), or end it with `migrate kill JOB`",
	}, nil
}

type source struct {
	carry.NoSource
	job  carry.Job
	open []queueFD
	// mount is that on which the open queues are to be opened again.
	mount string
}

// NewSource is the half of the node that a job leaves.
func NewSource(j carry.Job) carry.Source { return &source{job: j} }

// Freeze saves the job's message queues and finds the open ones. A running job may have
// asked to be notified since the preflight.
func (s *source) Freeze(context.Context) (external []string, err error) {
	if o, err := Check(s.job.Init); err != nil {
		return nil, err
	} else if o != nil {
		return nil, o
	}
	if err := s.job.CheckNamespaces(); err != nil {
		return nil, fmt.Errorf("the job cannot be saved: %w", err)
	}
	if err := s.save(); err != nil {
		return nil, err
	}
	if s.open, s.mount, err = openQueues(s.job.Init); err != nil {
		return nil, err
	}
	for _, q := range s.open {
		external = append(external, q.key)
	}
	return external, nil
}

// save puts the queues beside CRIU's images.
func (s *source) save() error {
	queues, err := mqueue.Save(s.job.Init, s.record)
	if err != nil || len(queues) == 0 {
		return err
	}
	if err := os.Remove(s.recordFile()); err != nil {
		return err
	}
	return write(s.job.Images, queues)
}

func (s *source) recordFile() string { return filepath.Join(s.job.Dir, "queue.json") }

// record keeps a queue whose messages are nowhere else at the moment.
func (s *source) record(q mqueue.Queue) error {
	data, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return durable.WriteFile(s.recordFile(), data, 0o600)
}

// Thaw does what is left to do if a save, of ours or of an earlier agent, was cut short.
// The job must not have run since, and so it is tried once.
func (s *source) Thaw() error {
	data, err := os.ReadFile(s.recordFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("messages are lost: %w", err)
	}
	var q mqueue.Queue
	if err := json.Unmarshal(data, &q); err != nil {
		return fmt.Errorf("messages are lost: %w", err)
	}
	if err = mqueue.PutBack(s.job.Init, q); err != nil {
		err = fmt.Errorf("messages are lost: message queue %s: %w", q.Name, err)
	}
	return errors.Join(err, os.Remove(s.recordFile()))
}

// queueFD is an open message queue descriptor as CRIU sees it. The file is on the kernel's own
// mount of the ipc namespace (ipc/mqueue.c), which has no path. CRIU saves it only as an external
// file, and would want an open one back at the restore. So the image is changed afterwards: it
// names a file of the job's /dev/mqueue. The queues there are the same, and CRIU opens them by
// itself.
type queueFD struct {
	key  string // CRIU's name for it, file[MOUNT:INODE] in hexadecimal
	path string // in the job
}

// openQueues finds the message queues that the job's tasks hold open.
func openQueues(init int) (queues []queueFD, mount string, err error) {
	if mount, err = queueMount(init); err != nil || mount == "" {
		return nil, "", err
	}
	tasks, err := pidmap.InNamespace(init)
	if err != nil {
		return nil, "", err
	}
	seen := map[string]bool{}
	for _, t := range tasks {
		found, err := queuesOf(t.Host, mount)
		if err != nil {
			return nil, "", err
		}
		for _, q := range found {
			if !seen[q.key] {
				seen[q.key] = true
				queues = append(queues, q)
			}
		}
	}
	return queues, mount, nil
}

// queueMount is the id of the mount at /dev/mqueue, "" if the job has none.
func queueMount(init int) (string, error) {
	table, err := procfs.MountTable(init)
	if err != nil {
		return "", err
	}
	id := ""
	for _, m := range table {
		if m.Target == mqueue.Dir && m.Type == "mqueue" {
			id = m.ID // the last one covers those before
		}
	}
	return id, nil
}

// queuesOf lists the queues that a task has open on other mounts than the given.
func queuesOf(pid int, mount string) ([]queueFD, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("descriptors of process %d: %w", pid, err)
	}
	var found []queueFD
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		var fs unix.Statfs_t
		if err := unix.Statfs(path, &fs); err != nil || fs.Type != mqueue.Magic {
			continue // sockets and the like have no file system to ask
		}
		id, err := mountID(pid, e.Name())
		if err != nil {
			return nil, err
		}
		if id == mount {
			continue
		}
		q, err := queueAt(path, id)
		if err != nil {
			return nil, err
		}
		found = append(found, q)
	}
	return found, nil
}

func queueAt(path, mount string) (q queueFD, err error) {
	name, err := os.Readlink(path)
	if err != nil {
		return q, err
	}
	if strings.HasSuffix(name, " (deleted)") {
		return q, fmt.Errorf("message queue %s was unlinked and is still open, which cannot be saved", strings.TrimSuffix(name, " (deleted)"))
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return q, err
	}
	n, err := strconv.ParseUint(mount, 10, 32)
	if err != nil {
		return q, err
	}
	return queueFD{key: fmt.Sprintf("file[%x:%x]", n, st.Ino), path: mqueue.Dir + name}, nil
}

func mountID(pid int, fd string) (string, error) {
	info, err := procfs.ReadFields(fmt.Sprintf("/proc/%d/fdinfo/%s", pid, fd))
	if err != nil {
		return "", err
	}
	id, ok := info["mnt_id"]
	if !ok {
		return "", errors.New("fdinfo without mnt_id")
	}
	return id, nil
}

// FixImages gives the saved descriptors the names under which a restore finds them.
func (s *source) FixImages() error {
	if len(s.open) == 0 {
		return nil
	}
	id, err := strconv.Atoi(s.mount)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, q := range s.open {
		names[q.key] = q.path
	}
	return image.NameFiles(s.job.Images, names, int32(id))
}
