package socketnames

import (
	"github.com/migrate-hpc/migrate/carry"
	"github.com/migrate-hpc/migrate/criu/image"
)

type source struct {
	carry.NoSource
	images string
}

// NewSource is the half of the node that a job leaves.
func NewSource(j carry.Job) carry.Source { return &source{images: j.Images} }

// FixImages reads what a restore will: what could not be read there must not be sent or sealed.
func (s *source) FixImages() error {
	_, err := image.SocketNames(s.images)
	return err
}
