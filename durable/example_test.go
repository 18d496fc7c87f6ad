package durable_test

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/migrate-hpc/migrate/durable"
)

// A file of a node's state: what is read back is whole, and is what was written.
func ExampleSeal() {
	dir, err := os.MkdirTemp("", "durable")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "record.json")
	record := []byte(`{"crc32c":"` + durable.Unsealed + `","epoch":7}`)
	durable.Seal(record)
	if err := durable.WriteFile(path, record, 0o600); err != nil {
		fmt.Println(err)
		return
	}
	read, err := os.ReadFile(path)
	fmt.Println(string(read), err, durable.Verify(read))
	read[len(read)-2] = '8' // the disk has changed a byte
	fmt.Println(durable.Verify(read) != nil)
	// Output:
	// {"crc32c":"7f99805e","epoch":7} <nil> <nil>
	// true
}
