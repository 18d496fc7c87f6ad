package main

// allowed are the breaches of the rules that are left, with what they come to today. A row is
// lowered with every change that improves on it and goes when the rule is kept; none is added.
var allowed = measured{
	{fileLines, "preflight/node_test.go"}:      445,
	{fileLines, "restore/receive_test.go"}:     454,
	{fileLines, "restore/uffd/absent_test.go"}: 458,
	{fileLines, "shim/shim_test.go"}:           537,
	{fileLines, "tmpfs/tmpfs_test.go"}:         484,

	{methods, "checkpoint.Source"}: 55,
}
