package durable

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"regexp"
)

// Unsealed is what a member "crc32c" of a JSON object holds before [Seal].
const Unsealed = "00000000"

// sealed finds the member, which stands among the first ones: what follows may hold any text.
var sealed = regexp.MustCompile(`"crc32c": ?"([0-9a-f]{8})"`)

const sealWithin = 80

// find returns the place of the checksum in data, nil if there is none.
func find(data []byte) []byte {
	at := sealed.FindSubmatchIndex(data[:min(len(data), sealWithin)])
	if at == nil {
		return nil
	}
	return data[at[2]:at[3]]
}

// Seal puts a checksum of a JSON text into its member "crc32c": the CRC-32C of all of its
// bytes as they are with [Unsealed] there, 8 lower-case hex digits. It changes data.
func Seal(data []byte) {
	if place := find(data); place != nil {
		copy(place, checksum(data, place))
	}
}

// Verify fails if the text is not what was sealed. A text without the member, of an
// earlier version or written by hand, is not checked.
func Verify(data []byte) error {
	data = bytes.Clone(data)
	place := find(data)
	if place == nil {
		return nil
	}
	said := string(place)
	if is := checksum(data, place); said != is {
		return fmt.Errorf("its checksum is %s and should be %s; in a file that was put right by hand the member crc32c must be removed", said, is)
	}
	return nil
}

func checksum(data, place []byte) string {
	copy(place, Unsealed)
	return fmt.Sprintf("%08x", crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}
