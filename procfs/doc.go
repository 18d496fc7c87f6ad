// Package procfs reads what the kernel tells of a process in /proc, with one parser for each form:
// lines "key: value" ([Fields]: status, fdinfo, smaps_rollup), [Stat], [Mapping] (maps, smaps) and
// [Pagemap]. What a caller makes of a task that ended meanwhile ([IsGone]) is its own matter.
package procfs
