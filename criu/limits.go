package criu

// GhostLimit bounds each deleted file that a job holds open, in bytes: CRIU
// carries their content inside its images. Source and target must agree on it. It is
// for files in memory, whose content is on the target before CRIU writes it; what else
// may be left to CRIU is for preflight to say.
const GhostLimit = 4<<30 - 4<<10
