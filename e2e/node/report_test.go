package node

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// report attaches to a failed test what the nodes have to say.
func (c *cluster) report() {
	for _, n := range c.nodes {
		c.t.Logf("---- log of the agent of %s\n%s", n.name, clip(readFile(n.logPath())))
		r := n.in("ip", "-br", "addr")
		c.t.Logf("---- network of %s\n%s%s", n.name, r.out, r.err)
		for _, root := range []string{n.state(), n.run(), n.memoryDir()} {
			c.attachLogs(root)
		}
	}
}

// attachLogs attaches the logs of shims and of CRIU beneath a directory.
func (c *cluster) attachLogs(root string) {
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".log") {
			return nil
		}
		if data, err := os.ReadFile(path); err == nil && len(data) > 0 {
			c.t.Logf("---- %s\n%s", strings.TrimPrefix(path, c.dir), clip(string(data)))
		}
		return nil
	})
}
