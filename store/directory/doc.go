// Package directory keeps checkpoints in directories of a file system. It is a form of package store.
//
//	Create ──► DIR.partial-MOVE, root's: lanes, hashed while they are written ──► Seal ──► DIR, its user's
//	Open ──► names, sizes and digests are checked, and what is used of a file while it is read
//	Claim ──► DIR/restored-EPOCH.json, beside what is sealed
//
// A checkpoint's directory belongs to a user, who may change all in it at any time. So a
// file is opened once, beneath the directory, without following links, and what is used of
// it is checked while it is read. All is done with that user's rights. Root's are for what
// only root could have put there.
package directory
