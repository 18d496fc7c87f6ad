// Package linux holds what every caller of the kernel writes again.
package linux
