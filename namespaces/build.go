package namespaces

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// prepareTree mounts the root and the node's mounts at cfg.RootDir. The calling thread has made a
// mount namespace for them. It is still outside the job's user namespace. Inside, the kernel
// refuses to clone a part of a tree that other mounts cover.
func prepareTree(cfg Config, src detachedMounts) error {
	if err := mountRoot(src.root, cfg.RootDir); err != nil {
		return err
	}
	t, err := openTreeAt(cfg.RootDir)
	if err != nil {
		return err
	}
	defer t.root.Close()
	for i, m := range outerMounts(cfg) {
		if err := t.attach(src.outer[i], m.Target); err != nil {
			return err
		}
	}
	return nil
}

// mountRoot makes all mounts of this namespace private and mounts the root at dir.
func mountRoot(root *os.File, dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("make all mounts private: %w", err)
	}
	if err := unix.MoveMount(int(root.Fd()), "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("mount the root at %s: %w", dir, err)
	}
	return nil
}

// buildRoot adds the job's own file systems to the prepared tree and moves into it. The mounts are
// those of innerMounts(cfg).
func buildRoot(cfg Config, mounts []*os.File) error {
	if cfg.User { // mounts that came from outside are locked until bound again
		if err := unix.Mount(cfg.RootDir, cfg.RootDir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
			return fmt.Errorf("bind %s to itself: %w", cfg.RootDir, err)
		}
	}
	t, err := openTreeAt(cfg.RootDir)
	if err != nil {
		return err
	}
	defer t.root.Close()
	if err := t.mountKernelTrees(); err != nil {
		return err
	}
	dev, err := t.mountDev(cfg.User)
	if err != nil {
		return err
	}
	tmp, err := t.mountTmp()
	if err != nil {
		return err
	}
	for i, m := range innerMounts(cfg) {
		own := dev
		if belowTmp(m.Target) {
			own = tmp
		}
		if err := own.attach(mounts[i], m.Target); err != nil {
			return err
		}
	}
	for _, f := range cfg.Files {
		if err := dev.place(f); err != nil {
			return err
		}
	}
	closeAll(append(mounts, dev.top, tmp.top))
	return t.pivot()
}

// pivot makes the tree the root of this mount namespace and detaches the old one.
func (t rootTree) pivot() error {
	if err := t.root.Chdir(); err != nil {
		return err
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root to %s: %w", t.root.Name(), err)
	}
	// The old root now lies on top of the new one.
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("let go of the node's mounts: %w", err)
	}
	return os.Chdir("/")
}
