// Package httpjson reads requests and writes answers in JSON.
package httpjson
