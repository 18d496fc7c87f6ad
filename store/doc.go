// Package store says what a checkpoint is, wherever it lives: signed, checked and claimed.
//
//	Create ──► Draft: lanes ──► Seal, or Discard
//	Open   ──► Checkpoint: manifest, lanes ──► Claim, Release
//
// A form of store implements Store for one kind of place; package directory is the first.
// What lies there is a user's, who may change it at any time. So the forms share what a
// signature holds for: a manifest, and in it the digests of what went through the lanes. A
// claim says which node restores the job, and since which epoch.
package store
