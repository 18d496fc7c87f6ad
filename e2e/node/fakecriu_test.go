package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"google.golang.org/protobuf/proto"
)

// fakeCRIU in the environment makes this test binary a CRIU that is older than
// any that works.
const fakeCRIU = "MIGRATE_TEST_FAKE_CRIU"

// oldCRIU writes a program that starts it so.
func oldCRIU(c *cluster) string {
	c.t.Helper()
	self, err := os.Executable()
	c.must(err)
	path := filepath.Join(c.dir, "old-criu")
	c.must(os.WriteFile(path, fmt.Appendf(nil, "#!/bin/sh\nexport %s=1\nexec %s \"$@\"\n", fakeCRIU, self), 0o755))
	return path
}

// answerAsOldCRIU serves `criu swrk FD`: it says that it is 3.17 and can do
// nothing.
func answerAsOldCRIU() {
	if len(os.Args) != 3 || os.Args[1] != "swrk" {
		fmt.Println("Version: 3.17.1")
		return
	}
	fd, err := strconv.Atoi(os.Args[2])
	if err != nil {
		os.Exit(1)
	}
	buf := make([]byte, 1<<20)
	for {
		n, err := syscall.Read(fd, buf)
		if err != nil || n == 0 {
			return
		}
		var req rpc.CriuReq
		if err := proto.Unmarshal(buf[:n], &req); err != nil {
			os.Exit(1)
		}
		resp := &rpc.CriuResp{Type: req.Type, Success: proto.Bool(req.GetType() == rpc.CriuReqType_VERSION)}
		if resp.GetSuccess() {
			resp.Version = &rpc.CriuVersion{MajorNumber: proto.Int32(3), MinorNumber: proto.Int32(17), Sublevel: proto.Int32(1)}
		}
		data, err := proto.Marshal(resp)
		if err != nil {
			os.Exit(1)
		}
		if _, err := syscall.Write(fd, data); err != nil || !req.GetKeepOpen() {
			return
		}
	}
}
