//go:build !race

package preflight

const shadow = 0
