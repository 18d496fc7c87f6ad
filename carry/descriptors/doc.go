// Package descriptors makes room in the tables of descriptors of a frozen job. CRIU saves a process by
// code that it runs in it, which opens a memfd and a socket there (compel). It fails in a process that
// has as many descriptors as its limit allows. So such a process has a higher limit while CRIU works;
// the images and the job that runs on have its own one.
package descriptors
