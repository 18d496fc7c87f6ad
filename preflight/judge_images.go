package preflight

import "github.com/migrate-hpc/migrate/tmpfs"

// CheckImageRoom judges the room for the job's images on this node, which is the source. Directory
// dir is on the tmpfs of the images.
func CheckImageRoom(n Needs, dir string) ([]Finding, error) {
	room, err := tmpfs.Room(dir)
	if err != nil {
		return nil, err
	}
	free, err := tmpfs.Available()
	if err != nil {
		return nil, err
	}
	var r report
	judgeImages(&r, n.images(), dir, room, free)
	return r.findings(), nil
}

// images is how much memory CRIU writes into its images, in bytes. It leaves out what page faults
// can bring.
func (n Needs) images() int64 {
	if n.Eager {
		return n.Memory - n.InTmpfs
	}
	return n.Segments + n.Locked
}

// judgeImages refuses what cannot be, without a margin.
func judgeImages(r *report, need int64, dir string, room, free int64) {
	if need > free {
		r.add(ImagesShort, "end or move other jobs first; `free -m` shows what is in use",
			"%d MiB of the job's memory are shared, locked or to be moved eagerly, and are written down in memory when it moves; this node has %d MiB available", need>>20, free>>20)
	}
	if need > room {
		r.add(ImagesShort, "enlarge it: `mount -o remount,size="+itoa(int((need+need/4)>>20))+"m "+quoted(dir)+"`, or let the agent use another tmpfs",
			"%s has %d MiB free, where %d MiB of the job's memory are written down when it moves, those that are shared, locked or to be moved eagerly", dir, room>>20, need>>20)
	}
}
