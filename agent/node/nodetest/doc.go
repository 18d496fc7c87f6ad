// Package nodetest makes nodes for tests of what works on one.
package nodetest
