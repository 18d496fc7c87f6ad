package vm

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/migrate-hpc/migrate/e2e/vm/guest/api"
)

// evidence is what tells what happened on a node.
const evidence = `cd / && dmesg >/tmp/dmesg.log; ps axf -o pid,ppid,stat,cgroup,args >/tmp/ps.log; ip addr >/tmp/ip.log
find var/log var/lib/migrate run/migrate tmp/dmesg.log tmp/ps.log tmp/ip.log -type f \( -name '*.log' -o -name '*.json*' -o -name std\* \) -size -1000k 2>/dev/null | tar -cf - -T -`

// Collect copies into a directory of the host what the machines have said: serial
// log, QEMU's command line and messages, agent, shims and jobs. It returns the files.
// A machine that does not answer gives what lies on the host.
func (l *Lab) Collect(ctx context.Context, dir string) (files []string, err error) {
	var errs []error
	for _, m := range l.machines {
		to := filepath.Join(dir, m.Name)
		if err := os.MkdirAll(to, 0o755); err != nil {
			return files, err
		}
		for _, name := range []string{"serial.log", "qemu.log", "command"} {
			if data, err := os.ReadFile(filepath.Join(m.dir, name)); err == nil && len(data) > 0 {
				path := filepath.Join(to, name)
				files = append(files, path)
				errs = append(errs, os.WriteFile(path, data, 0o644))
			}
		}
		if m.guest == nil {
			continue
		}
		more, err := m.collect(ctx, to)
		files = append(files, more...)
		errs = append(errs, err)
	}
	return files, errors.Join(errs...)
}

func (m *Machine) collect(ctx context.Context, to string) (files []string, err error) {
	var out bytes.Buffer
	if _, err := m.Stream(ctx, api.Command{Args: []string{"sh", "-c", evidence}}, &out, io.Discard); err != nil {
		return nil, err
	}
	for r := tar.NewReader(&out); ; {
		h, err := r.Next()
		if err == io.EOF {
			return files, nil
		}
		if err != nil {
			return files, err
		}
		data, err := io.ReadAll(r)
		if err != nil {
			return files, err
		}
		path := filepath.Join(to, strings.ReplaceAll(h.Name, "/", "_"))
		files = append(files, path)
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return files, err
		}
	}
}
