package namespaces

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// Of include/uapi/linux/fuse.h, version 7.31: request codes and sizes.
const (
	fuseLookup, fuseGetattr, fuseInit = 1, 3, 26

	fuseInHeader, fuseOutHeader, fuseInitOut, fuseAttrOut = 40, 16, 64, 104
)

// hung is a file system that answers for its root directory and never for a name in it. A task
// that waits for a name cannot be killed: the server has its request.
type hung struct {
	dir     string
	device  *os.File
	served  sync.WaitGroup
	waiting chan struct{} // closed when a request for a name waits
}

func newHung(t *testing.T) *hung {
	t.Helper()
	testenv.NeedRoot(t)
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		testenv.Missing(t, "no FUSE: %v", err)
	}
	h := &hung{dir: t.TempDir(), waiting: make(chan struct{})}
	if err := unix.Mount("hung", h.dir, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)); err != nil {
		testenv.Missing(t, "no FUSE: %v", err)
	}
	h.device = os.NewFile(uintptr(fd), "fuse") // which can be polled now
	h.served.Go(func() { h.serve(t) })
	t.Cleanup(func() {
		h.letGo()
		if err := unix.Unmount(h.dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return h
}

// letGo fails all requests that wait.
func (h *hung) letGo() {
	_ = h.device.Close() // a second time does nothing
	h.served.Wait()
}

func (h *hung) serve(t *testing.T) {
	var once sync.Once
	in := make([]byte, 1<<17)
	for {
		n, err := h.device.Read(in)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		if err != nil || n < fuseInHeader {
			t.Errorf("FUSE: %d bytes, %v", n, err)
			_ = h.device.Close()
			return
		}
		var body []byte
		switch binary.NativeEndian.Uint32(in[4:]) {
		case fuseInit:
			body = make([]byte, fuseInitOut)
			binary.NativeEndian.PutUint32(body[0:], 7)
			binary.NativeEndian.PutUint32(body[4:], 31)
		case fuseGetattr:
			body = make([]byte, fuseAttrOut)
			binary.NativeEndian.PutUint64(body[0:], 3600)                // valid for seconds
			binary.NativeEndian.PutUint64(body[16:], 1)                  // inode
			binary.NativeEndian.PutUint32(body[76:], unix.S_IFDIR|0o755) // mode
		case fuseLookup:
			once.Do(func() { close(h.waiting) })
			continue
		default:
			continue // interrupts
		}
		out := make([]byte, fuseOutHeader, fuseOutHeader+len(body))
		binary.NativeEndian.PutUint32(out, uint32(fuseOutHeader+len(body)))
		copy(out[8:], in[8:16]) // which request
		if _, err := h.device.Write(append(out, body...)); err != nil {
			t.Errorf("FUSE: %v", err)
		}
	}
}

func TestAStartThatAFileServerHoldsUpIsGivenUp(t *testing.T) {
	for name, set := range map[string]func(*Config, string){
		"stdin":   func(c *Config, path string) { c.Stdin = path },
		"stdout":  func(c *Config, path string) { c.Stdout = path },
		"command": func(c *Config, path string) { c.Args = []string{path} },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHung(t)
			cfg, _ := configuration(t, "exit 0")
			c := newCgroup(t)
			cfg.Mounts = []Mount{{Source: h.dir, Target: "/tmp/far"}}
			set(&cfg, "/tmp/far/name")
			before := childrenOf(t, os.Getpid())
			why := errors.New("the time of the start is over")
			ctx, cancel := context.WithCancelCause(context.Background())
			go func() {
				<-h.waiting
				cancel(why)
			}()
			inTime(t, func() {
				if p, err := Start(ctx, cfg, StartEnv{Cgroup: c}); !errors.Is(err, why) {
					t.Errorf("got %v, %v", p, err)
				}
			})
			h.letGo()
			eventually(t, "what could not be killed ends", func() bool {
				for _, pid := range childrenOf(t, os.Getpid()) {
					_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
				}
				return len(childrenOf(t, os.Getpid())) == len(before)
			})
			if err := c.Remove(); err != nil {
				t.Error(err)
			}
		})
	}
}
