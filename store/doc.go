// Package store knows where checkpoints live: directories that a node has signed.
//
//	Draft ──► files, hashed while they are written ──► Seal: manifest.json, manifest.sig
//	Open: the only way back. It checks the signature, then names, sizes and digests
//	Stake, Claims: which node restores the job of a checkpoint, and since which epoch
//
// A checkpoint's directory belongs to a user, who may change all in it at any time. So a
// file is opened once, beneath the directory, without following links, and what is used of
// it is checked while it is read.
package store
