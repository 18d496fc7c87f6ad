// Package safepath makes sure that only root decides what a path leads to. Root's own
// files are safe in a directory of root's only if the same holds for every directory above it,
// and for every link on the way:
//
//	/             root's, closed for writing
//	/dev/shm      root's, open for writing, sticky: what is root's in it stays, …
//	/dev/shm/x    … so this must be root's. A user who was here first is refused
//
// A safe path stays safe without being held open, since only root could change it. So an agent
// checks it once, when it starts, and uses its name from then on.
//
// The idea is that of OpenSSH's check of authorized_keys, and of systemd's chase_symlinks with
// CHASE_SAFE.
package safepath
