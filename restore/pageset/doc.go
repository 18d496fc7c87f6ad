// Package pageset holds sets of page ranges that are large and change often. A store has
// one of what it holds, an address space one of what it lacks. A job of many gigabytes has
// millions of ranges. So a set is a list of leaves of bounded size. An operation on all
// pages goes through two sets once, in order.
package pageset
