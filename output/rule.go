package output

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/humanize"
)

// DefaultLimit is how much output of a job is kept unless it is started with another
// limit, in bytes.
const DefaultLimit = 1 << 30

// Room is what a file system has, in bytes.
type Room struct{ Free, Total int64 }

func roomOf(st *unix.Statfs_t) Room {
	return Room{Free: int64(st.Bavail) * st.Bsize, Total: int64(st.Blocks) * st.Bsize}
}

const (
	// floorPart of the file system, and at most mostFloor, is for what is no output.
	floorPart = 20
	mostFloor = 1 << 30
	// sharePart of the file system is what the output of a user's jobs may take when
	// another one is started.
	sharePart = 4
)

// Floor is the room below which output may not grow at the cost of all others.
func (r Room) Floor() int64 { return min(r.Total/floorPart, mostFloor) }

// Share is how much output of one user is kept before another job of theirs is started.
func (r Room) Share() int64 { return r.Total / sharePart }

// Short says that the room is below the floor.
func (r Room) Short() bool { return r.Free < r.Floor() }

const (
	// fastest is more than a job writes in a second.
	fastest = 2 << 30
	// Looks are never closer than soonest, and never further apart than latest.
	soonest = 10 * time.Millisecond
	latest  = time.Second
)

// Rule is the limit of one job.
type Rule struct {
	Limit int64 // bytes; 0 is none
	last  int64
}

// Look judges what the files take. Of a disk that is short of room it asks biggest,
// which says whether no user keeps more output on it. why is "" as long as the job may
// go on, otherwise keep is how much of its output is kept.
func (r *Rule) Look(size int64, room Room, biggest func() bool) (why string, keep int64) {
	grew := size > r.last
	r.last = size
	switch {
	case r.Limit > 0 && size > r.Limit:
		return fmt.Sprintf("its output limit of %s is reached", humanize.Size(r.Limit)), r.Limit
	case grew && room.Short() && biggest():
		return "its output fills the disk of the node's agent", max(0, size-(room.Floor()-room.Free))
	}
	return "", size
}

// Next is how long nothing can happen.
func (r *Rule) Next(room Room) time.Duration {
	left := room.Free - room.Floor()
	if left <= 0 { // others take the room, or the log does not grow
		left = fastest / 4
	}
	if r.Limit > 0 {
		left = min(left, r.Limit-r.last)
	}
	return min(max(time.Duration(float64(left)/fastest*float64(time.Second)), soonest), latest)
}

// Split divides what is kept between the files: the larger one is cut first.
func Split(sizes [len(Names)]int64, keep int64) [len(Names)]int64 {
	over := max(0, sizes[0]+sizes[1]-keep)
	large := 0
	if sizes[1] > sizes[0] {
		large = 1
	}
	cut := min(over, sizes[large])
	sizes[large] -= cut
	sizes[1-large] -= min(over-cut, sizes[1-large])
	return sizes
}
