package node

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/e2e/tamper"
)

// tamperCRIU in the environment makes this test binary a CRIU that changes the images
// between the look at them and the restore. It stands for a CRIU that does something else
// than they say.
const tamperCRIU = "MIGRATE_TEST_TAMPER_CRIU"

// otherwise is what it changes; it is read at each restore.
type otherwise struct {
	CRIU   string // the real one
	Fields []string
}

// tampering makes a node's CRIU one that changes what change says.
func tampering(n *node) (change func(fields ...string)) {
	n.c.t.Helper()
	self, err := os.Executable()
	n.c.must(err)
	config, path := filepath.Join(n.dir, "otherwise.json"), filepath.Join(n.dir, "criu")
	n.c.must(os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nexport %s=%s\nexec %s \"$@\"\n", tamperCRIU, config, self), 0o755))
	change = func(fields ...string) {
		data, err := json.Marshal(otherwise{CRIU: shared.criu, Fields: fields})
		n.c.must(err)
		n.c.must(os.WriteFile(config, data, 0o600))
	}
	change()
	n.criu = path
	return change
}

// actAsTamperCRIU becomes the real CRIU. Its request stays in the socket.
func actAsTamperCRIU(config string) error {
	var o otherwise
	data, err := os.ReadFile(config)
	if err == nil {
		err = json.Unmarshal(data, &o)
	}
	if err != nil {
		return err
	}
	if len(os.Args) == 3 && os.Args[1] == "swrk" {
		if err := o.tamper(os.Args[2]); err != nil {
			return err
		}
	}
	return syscall.Exec(o.CRIU, append([]string{o.CRIU}, os.Args[1:]...), os.Environ())
}

func (o *otherwise) tamper(socket string) error {
	fd, err := strconv.Atoi(socket)
	if err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	n, _, err := unix.Recvfrom(fd, buf, unix.MSG_PEEK)
	if err != nil {
		return err
	}
	var req rpc.CriuReq
	if err := proto.Unmarshal(buf[:n], &req); err != nil || req.GetType() != rpc.CriuReqType_RESTORE {
		return err
	}
	config, err := os.ReadFile(os.Getenv(tamperCRIU)) // it waits for its request for long
	if err == nil {
		err = json.Unmarshal(config, o)
	}
	if err != nil {
		return err
	}
	images := fmt.Sprintf("/proc/%d/fd/%d", os.Getppid(), req.GetOpts().GetImagesDirFd())
	all, err := tamper.Mutations(images, rand.New(rand.NewPCG(3, 4)))
	if err != nil {
		return err
	}
	for _, field := range o.Fields {
		for _, m := range tamper.OneOfEach(all) {
			if m.Field == field {
				if err := m.Apply(images); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
