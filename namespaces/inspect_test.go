package namespaces

import (
	"os"
	"reflect"
	"slices"
	"testing"
)

func TestTheNamespacesOfAProcessThatIsGoneAreAnError(t *testing.T) {
	if _, err := Of(1 << 30); err == nil {
		t.Error("no error")
	}
}

func TestEveryKindOfNamespaceIsNamed(t *testing.T) {
	ns, err := Of(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range Kinds {
		if ns[k] == "" {
			t.Errorf("%s is missing", k)
		}
	}
}

func TestWhatLiesBeneathADirectoryIsToldByWholeNames(t *testing.T) {
	skip := []string{"/srv/agent/"}
	for path, want := range map[string]bool{
		"/proc": true, "/proc/fs": true, "/procession": false, "/dev/shm": true, "/home": false,
		"/srv/agent/x": true, "/srv/agents": false, "/srv": false, "/tmp/x": true, "/boot/efi": true,
	} {
		if got := isBelow(path, skip); got != want {
			t.Errorf("beneath(%s) = %v", path, got)
		}
	}
}

func TestNodeMountsCarryFilesAndComeOnce(t *testing.T) {
	mounts, err := NodeMounts()
	if err != nil {
		t.Fatal(err)
	}
	var targets []string
	for _, m := range mounts {
		if m.Target == "/" || isBelow(m.Target, nil) || m.Source != m.Target || slices.Contains(targets, m.Target) {
			t.Errorf("%+v is no mount of the node that a job wants", m)
		}
		targets = append(targets, m.Target)
	}
}

func TestDevicesAreNamedByPath(t *testing.T) {
	want := []string{"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"}
	if got := Devices(); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}
