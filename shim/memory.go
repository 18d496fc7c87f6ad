package shim

import (
	"sync"

	"github.com/migrate-hpc/migrate/restore/uffd"
)

// memory is where the fault server is found of the job that is being restored, or was.
type memory struct {
	mu     sync.Mutex
	opened chan struct{} // closed while server is set
	server *uffd.Server
}

// open lets pages in.
func (m *memory) open(server *uffd.Server) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.server = server
	close(m.opened)
}

// close fails the requests that wait with pages.
func (m *memory) close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.server, m.opened = nil, make(chan struct{})
}

// now returns the fault server, or nil, and what is closed while there is one.
func (m *memory) now() (server *uffd.Server, opened <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.server, m.opened
}
