package main

// allowed are the breaches of the rules that are left, with what they come to today. A row is
// lowered with every change that improves on it and goes when the rule is kept; none is added.
var allowed = measured{
	{fileLines, "agent/hostile_test.go"}:       405,
	{fileLines, "agent/onecopy_test.go"}:       430,
	{fileLines, "handoff/journal_test.go"}:     443,
	{fileLines, "handoff/model_nodes_test.go"}: 482,
	{fileLines, "handoff/nodes_test.go"}:       408,
	{fileLines, "preflight/node_test.go"}:      449,
	{fileLines, "restore/receive_test.go"}:     474,
	{fileLines, "restore/uffd/absent_test.go"}: 458,
	{fileLines, "shim/shim_test.go"}:           555,
	{fileLines, "tmpfs/tmpfs_test.go"}:         492,

	{parameters, "tmpfs.visit"}: 7,

	{methods, "agent.Agent"}:             193,
	{methods, "agent.landing"}:           32,
	{methods, "checkpoint.Source"}:       69,
	{methods, "restore/pagestore.Store"}: 36,
	{methods, "restore/uffd.Server"}:     78,
	{methods, "shim.shim"}:               40,

	{upwardArrows, "agent"}:       70,
	{upwardArrows, "checkpoint"}:  13,
	{upwardArrows, "cmd/migrate"}: 21,
	{upwardArrows, "namespaces"}:  13,

	{filesInCircles, "agent"}:     53,
	{filesInCircles, "agent/api"}: 2,

	{rawKeys, "agent"}: 133,
}
