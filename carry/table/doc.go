// Package table has the carried resources, one a row.
package table
