package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/criu/image"
	"github.com/migrate-hpc/migrate/durable"
	"github.com/migrate-hpc/migrate/mqueue"
	"github.com/migrate-hpc/migrate/pidmap"
	"github.com/migrate-hpc/migrate/procfs"
)

// queues saves the job's message queues. It finds the open ones, and the mount on which a restore
// opens them again. The error wraps [mqueue.ErrNotify] if a task waits for a notification. A
// running job may have asked for one since the preflight.
func (s *Source) queues() ([]queueFD, string, error) {
	switch name, err := mqueue.Notified(s.Init); {
	case err != nil:
		return nil, "", err
	case name != "":
		return nil, "", fmt.Errorf("message queue /%s: %w", name, mqueue.ErrNotify)
	}
	if err := s.checkNamespaces(); err != nil {
		return nil, "", err
	}
	if err := s.saveQueues(); err != nil {
		return nil, "", err
	}
	return s.openQueues()
}

// saveQueues writes the queues beside CRIU's images.
func (s *Source) saveQueues() error {
	queues, err := mqueue.Save(s.Init, s.recordQueue)
	if err != nil || len(queues) == 0 {
		return err
	}
	if err := os.Remove(s.queueFile()); err != nil {
		return err
	}
	data, err := json.Marshal(queues)
	if err != nil {
		return err
	}
	return image.SetQueues(s.Images(), data)
}

func (s *Source) queueFile() string { return filepath.Join(s.Dir, "queue.json") }

// recordQueue records a queue whose messages are nowhere else at the moment.
func (s *Source) recordQueue(q mqueue.Queue) error {
	data, err := json.Marshal(q)
	if err != nil {
		return err
	}
	return durable.WriteFile(s.queueFile(), data, 0o600)
}

// restoreQueue puts back the messages of a queue if saveQueues was cut short, in this or an
// earlier agent. The job must not have run since, so it is tried once.
func (s *Source) restoreQueue() error {
	data, err := os.ReadFile(s.queueFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var q mqueue.Queue
	if err := json.Unmarshal(data, &q); err != nil {
		return err
	}
	if err = mqueue.PutBack(s.Init, q); err != nil {
		err = fmt.Errorf("message queue %s: %w", q.Name, err)
	}
	return errors.Join(err, os.Remove(s.queueFile()))
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
func (s *Source) openQueues() (queues []queueFD, mount string, err error) {
	if mount, err = queueMount(s.Init); err != nil || mount == "" {
		return nil, "", err
	}
	tasks, err := pidmap.InNamespace(s.Init)
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

// nameQueues gives the saved descriptors the paths of the restored queues.
func (s *Source) nameQueues(queues []queueFD, mount string) error {
	if len(queues) == 0 {
		return nil
	}
	id, err := strconv.Atoi(mount)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for _, q := range queues {
		names[q.key] = q.path
	}
	return image.NameFiles(s.Images(), names, int32(id))
}
