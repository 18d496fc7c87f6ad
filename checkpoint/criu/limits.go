package criu

// GhostLimit bounds each deleted file that a job holds open, in bytes: CRIU
// carries their content inside its images. Source and target must agree on it.
const GhostLimit = 64 << 20
