package procfs

// Deleted is the end of a path in /proc whose file has no name any more (d_path() in
// fs/d_path.c). A file's own name may end so, too: the number of links tells them apart.
const Deleted = " (deleted)"
