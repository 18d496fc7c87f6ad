// Package tamper changes a job's images as a node that was broken into could: it writes other
// credentials, maps and namespaces into images that are valid otherwise, and signs them with
// the node's own key. For tests.
package tamper
