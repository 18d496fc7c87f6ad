package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestAJobThatMakesAndRemovesAFileAllTheTimeMoves(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	here, there := c.two()
	dir := filepath.Join(c.dir, "data")
	c.must(os.MkdirAll(dir, 0o777))
	j := here.launch("--bind", dir+":/mnt", "--", "sh", "-c", "echo ready; while :; do exec 3>/mnt/journal; sleep 0.005; exec 3>&-; rm /mnt/journal; sleep 0.02; done")
	j.ready(here)
	for range 6 {
		j.move(here, there)
		here, there = there, here
	}
}
