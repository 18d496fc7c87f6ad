package main

import (
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/migrate-hpc/migrate/restore/pages"
)

func cpu() time.Duration {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
func main() {
	root := os.Args[1]
	for _, c := range []struct {
		name string
		run  int64
	}{{"3+zero", 3}, {"256", 256}, {"3+zero", 3}, {"256", 256}} {
		d, _ := os.MkdirTemp(root, "zz")
		s, err := pages.Create(d)
		if err != nil {
			panic(err)
		}
		data := make([]byte, 256*4096)
		for i := range data {
			data[i] = byte(i)
		}
		b, t := cpu(), time.Now()
		addr := uint64(1 << 30)
		var n int64
		for n < 196608 {
			if err := s.Put(1, addr, data[:c.run*4096]); err != nil {
				panic(err)
			}
			n += c.run
			addr += uint64(c.run) * 4096
			if c.run == 3 {
				s.PutZero(1, addr, 1)
				addr += 4096
			}
		}
		put := cpu() - b
		w := time.Since(t)
		s.Close()
		b = cpu()
		o, err := pages.Open(d)
		if err != nil {
			panic(err)
		}
		op := cpu() - b
		o.Close()
		fmt.Println(c.name, "put 768 MiB cpu", put, "wall", w, "open cpu", op)
		os.RemoveAll(d)
	}
}
