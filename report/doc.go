// Package report draws what became of a move, in one HTML file that holds everything it
// shows. So a user can mail it, print it, keep it beside the results of a job, and open
// it years later on a machine without a network.
//
//	api.MoveRecord ─┬─ figures: gonum/plot → SVG, inline ──┐
//	                └─ tables:  the same numbers as text ──┴─ html/template → one file
//
// The pictures are static: a report is evidence, and should look the same to all
// readers. They carry no colours of text and axes of their own (currentColor), so
// one file suits a light screen, a dark one, and paper. All that comes out of a
// record, names and messages, is escaped by html/template or, in the pictures, by
// the SVG canvas.
package report
