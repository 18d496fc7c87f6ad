// Package caller says who asks, by the kernel's word on the socket or another node's on its
// connection, and bounds how much each caller may have under way.
package caller
