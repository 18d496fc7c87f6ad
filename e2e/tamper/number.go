package tamper

import (
	"maps"
	"path/filepath"
	"slices"
)

// Number returns the file of one of the threads, and what it holds with one number of its
// credentials changed to value: nil if it is that already. Core and field choose, whatever
// they are.
func Number(dir string, core, field int, value uint32) (file string, changed []byte, err error) {
	names, err := filepath.Glob(filepath.Join(dir, "core-*.img"))
	if err != nil || len(names) == 0 {
		return "", nil, err
	}
	file = names[core%len(names)]
	i, err := readImage(file)
	if err != nil {
		return "", nil, err
	}
	numeric := []path{secbits, noNewPrivs}
	for _, fields := range []map[string]path{idFields, capFields} {
		for _, name := range slices.Sorted(maps.Keys(fields)) {
			numeric = append(numeric, fields[name])
		}
	}
	p := numeric[field%len(numeric)]
	was, err := numbers(i.records[0], p...)
	if err != nil || len(was) == 0 || was[0] == uint64(value) {
		return file, nil, err
	}
	if p[2] == noNewPrivs[2] && value != 0 { // it is on, and on is on
		return file, nil, nil
	}
	was[0] = uint64(value)
	if i.records[0], err = with(i.records[0], was, p...); err != nil {
		return file, nil, err
	}
	return file, i.bytes(), nil
}
