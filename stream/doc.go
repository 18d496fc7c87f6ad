// Package stream defines what a connection and a checkpoint's file both carry: page runs,
// digests of pages, and the heads of the streams on a lane.
//
// # Page batches
//
// A frame of a page stream holds one or more runs, one after the other. All
// numbers are little endian:
//
//	 0        4        8                 16       20        24
//	┌────────┬────────┬─────────────────┬────────┬─────────┬──────────────────┐
//	│ vpid   │ flags  │ address         │ pages  │ 0       │ pages × 4096 B   │
//	│ u32    │ u32    │ u64             │ u32    │ u32     │ absent if zero   │
//	└────────┴────────┴─────────────────┴────────┴─────────┴──────────────────┘
//
// At most one flag bit is set. Bit 0 says that every page of the run is zero; a
// memory that is mostly zero so costs 24 bytes however long it is. Bit 1 says that
// the pages equal others: vpid u32, 0 u32, address u64 of those follow in place of
// data. Bit 2 says that the reader is to forget the pages. Runs are read in order,
// so a copy is of what its source is by the runs before it on the same lane.
package stream
