package job

import (
	"crypto/rand"
	"encoding/base32"
	"fmt"
	"strings"
)

// ID names a job in the whole cluster: "j" and ten characters of lower-case base32, 50 random bits.
type ID string

const (
	idAlphabet = "abcdefghijklmnopqrstuvwxyz234567"
	idLength   = 10
)

// NewID returns an id that no other job has.
func NewID() ID {
	var b [8]byte
	rand.Read(b[:]) // never fails since Go 1.24
	return ID("j" + base32.NewEncoding(idAlphabet).EncodeToString(b[:])[:idLength])
}

// ParseID checks an id that a user or a peer named; what it lets pass is safe as a file name.
func ParseID(s string) (ID, error) {
	if len(s) != 1+idLength || s[0] != 'j' || strings.Trim(s[1:], idAlphabet) != "" {
		return "", fmt.Errorf("%.40q is no job id: an id is j and %d characters of a-z and 2-7; `migrate ps` lists them", s, idLength)
	}
	return ID(s), nil
}
