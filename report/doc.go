// Package report draws how a move went, as one HTML file without references. A user mails
// it, prints it, or opens it years later on a machine without a network.
//
//	api.MoveRecord ─┬─ figures: gonum/plot → SVG, inline ──┐
//	                └─ tables:  the same numbers as text ──┴─ html/template → one file
//
// The pictures are static: a report is evidence and looks the same to every reader. Text
// and axes have the colour of the page (currentColor), so one file suits a light screen, a
// dark one, and paper. html/template escapes the names and messages of the record; in the
// pictures the SVG canvas does.
package report
