// Package logkey has the keys of the log. Who searches a log for a job or a move finds it by one
// word, whichever package wrote the line; so each thing has one key, and all of them are here.
//
//	log.Warn("connection refused", logkey.Remote, addr, logkey.Err, err)
package logkey
