// Package testenv is what tests of several packages need of the machine that they run on.
package testenv
