// Package storetest is what every form of store must pass.
//
// It knows package store only. What is special about a place, such as what its users
// can do to it, is for the tests of its form.
package storetest
