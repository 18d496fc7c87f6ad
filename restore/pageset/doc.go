// Package pageset holds sets of page ranges that are large and change often: what a store
// has, what an address space lacks. A job of many gigabytes has millions of ranges, so a
// set is a list of leaves of bounded size, and what concerns all pages goes through two
// sets once, in order.
package pageset
