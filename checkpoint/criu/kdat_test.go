package criu

import "testing"

func BenchmarkLazyDump(b *testing.B) {
	c, j := realCRIU(b), startJob(b, 64)
	for _, bench := range []struct{ name, cache string }{{"probing", ""}, {"cached", b.TempDir()}} {
		b.Run(bench.name, func(b *testing.B) {
			c := New(c.Path(), bench.cache, quiet())
			if _, err := c.Version(bounded(b)); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				req, _, log := dumpRequest(b, j)
				j.cgroup.freeze(b)
				if _, err := c.DumpLazy(bounded(b), req, Run{LogFile: log}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
