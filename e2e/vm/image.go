package vm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Image is what scripts/vm-image has made.
type Image struct {
	dir  string
	qemu string
}

// ErrNoImage is wrapped by Find's error when the image is not built.
var ErrNoImage = errors.New("the guest image is not built: make vm-image")

// The kernels of an image, by the Debian release that they are from.
const (
	KernelStable  = "trixie"
	KernelTesting = "forky"
)

// Find asks the script in the repository that contains the working directory.
func Find(ctx context.Context) (Image, error) {
	root, err := repository()
	if err != nil {
		return Image{}, err
	}
	out, err := exec.CommandContext(ctx, filepath.Join(root, "scripts", "vm-image"), "--dir").Output()
	if err != nil {
		return Image{}, fmt.Errorf("scripts/vm-image --dir: %w", err)
	}
	im := Image{dir: strings.TrimSpace(string(out))}
	if _, err := os.Stat(filepath.Join(im.dir, "complete")); err != nil {
		return Image{}, fmt.Errorf("%w (%w)", ErrNoImage, err)
	}
	im.qemu, err = im.findQEMU(ctx)
	return im, err
}

func repository() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; at != "/"; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "scripts", "vm-image")); err == nil {
			return at, nil
		}
	}
	return "", fmt.Errorf("%s is not in the repository", dir)
}

// oldestQEMU is the major version from which the system's own is taken.
const oldestQEMU = 10

func (im Image) findQEMU(ctx context.Context) (string, error) {
	own := filepath.Join(im.dir, "qemu", "qemu-system-x86_64")
	if _, err := os.Stat(own); err == nil {
		return own, nil
	}
	path, err := exec.LookPath("qemu-system-x86_64")
	if err != nil {
		return "", fmt.Errorf("%w: it has no QEMU, and the system has none", ErrNoImage)
	}
	out, err := Image{qemu: path}.version(ctx)
	if err != nil {
		return "", err
	}
	_, version, _ := strings.Cut(out, "version ")
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < oldestQEMU {
		return "", fmt.Errorf("%w: it has no QEMU, and the system's is %s", ErrNoImage, version)
	}
	return path, nil
}

// version is the whole version of QEMU.
func (im Image) version(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, im.qemu, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", im.qemu, err)
	}
	return string(out), nil
}

// mpi holds Open MPI's headers and library, for the host's compiler.
func (im Image) mpi() string               { return filepath.Join(im.dir, "mpi") }
func (im Image) snapshots() string         { return filepath.Join(im.dir, "snapshots") }
func (im Image) kernel(name string) string { return filepath.Join(im.dir, "kernel", name, "vmlinuz") }
func (im Image) disk() string              { return filepath.Join(im.dir, "root.img") }

// ramDisk writes the first RAM disk for a kernel: our agent and the modules that it
// loads, the disk's driver last.
func (im Image) ramDisk(kernel, agent, path string) error {
	const dir, regular = 0o040755, 0o100755
	entries := []entry{{"dev", dir, nil}, {"proc", dir, nil}, {"sys", dir, nil}, {"disk", dir, nil}, {"early", dir, nil}}
	from := filepath.Join(im.dir, "kernel", kernel)
	modules, err := filepath.Glob(filepath.Join(from, "early", "*.ko"))
	if err != nil {
		return err
	}
	files := map[string]string{"guest": agent, "virtio_blk.ko": filepath.Join(from, "virtio_blk.ko")}
	for _, module := range modules {
		files["early/"+filepath.Base(module)] = module
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data, err := os.ReadFile(files[name])
		if err != nil {
			return err
		}
		entries = append(entries, entry{name, regular, data})
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(writeRAMDisk(f, entries), f.Close())
}
