// Package thread runs code on an operating system thread of its own that ends with
// it. Namespaces, file system identity and the like belong to threads, and a
// thread that has changed them cannot be given back: the next goroutine on it
// would find itself somewhere else. It is also where root does something with the
// rights to files that a user has.
package thread
