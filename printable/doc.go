// Package printable makes text that comes from elsewhere fit for a terminal. Users choose the
// names of files and processes, and errors and findings quote them; a terminal would obey what
// is in there, in root's hands too.
//
// What a terminal does not show as a character of its own is escaped as in JSON: control
// characters, C1 included, by which some terminals are told the same as by escape sequences;
// characters that change the direction of others; those that take no room. So JSON stays JSON
// that means the same. Bytes that are not UTF-8 become \x9b.
package printable
