// Package osthread runs code on an operating system thread of its own that ends with
// it. Namespaces, file system identity and the like belong to threads, and a
// thread that has changed them cannot be given back: the next goroutine on it
// would find itself somewhere else. It is also where root does something with the
// rights to files that a user has.
//
// A session keyring (keyrings(7)) is a thread's, too, and inherited. So every job, every
// command that visits one, every CRIU that restores one, and agent and shim get a new one
// before anything of a user's runs. What Linux 6.18 showed:
//
//   - A keyring belongs to who joins it, and so does its place in a quota. A user may have
//     200 keys: in keyrings of their own, as many jobs. In its owner's other processes
//     it could be read and linked (KEY_USR_READ, KEY_USR_LINK), and so handed from job to
//     job. So root joins: of a keyring of root's a job has what possession gives, to
//     add, find and clear keys, and can change neither owner nor rights (EACCES). Keys in
//     it are their makers', and in their makers' quota.
//   - Joining by name finds a keyring that lets itself be searched. An attacker who knew the
//     name could have one ready; with 64 random bits in it nobody does, and what was joined
//     is looked at afterwards.
//   - A keyring's name cannot be changed later, and /proc lists nobody's keyring. So the name
//     is how root finds those of a job in /proc/keys, with the number of keys. A user cannot
//     make one of root's. In a job's user namespace the kernel does not list it.
//   - setuid, execve, setns and unshare keep it. CRIU saves no keys, and restores a job in
//     the session keyring that it runs in itself.
package osthread
