package image

import "errors"

// What Open and its relatives found wrong. Every error wraps one of these and
// names the file.
var (
	ErrMissing   = errors.New("file is missing")
	ErrExtra     = errors.New("file is not in the manifest")
	ErrSize      = errors.New("size is wrong")
	ErrDigest    = errors.New("digest is wrong")
	ErrSignature = errors.New("signature is not valid")
	ErrVersion   = errors.New("version of the manifest is not known")
)
