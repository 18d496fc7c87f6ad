package mqueue

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

// inNamespaces starts a process with ipc and mount namespaces of its own and an
// mqueue file system in them.
func inNamespaces(t *testing.T) int {
	t.Helper()
	testenv.NeedRoot(t)
	cmd := exec.Command("sh", "-c", "mount --make-rprivate / && mkdir -p /dev/mqueue && mount -t mqueue mqueue /dev/mqueue && echo ready && exec sleep 60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWIPC | unix.CLONE_NEWNS}
	return testenv.Start(t, cmd)
}

var sample = []Queue{
	{Name: "empty", Mode: 0o640, UID: 1000, GID: 100, MaxMessages: 3, MessageSize: 16},
	{Name: "full", Mode: 0o600, MaxMessages: 4, MessageSize: 64, Messages: []Message{
		{Priority: 9, Data: []byte("first")}, {Priority: 9, Data: []byte("second")}, {Priority: 1, Data: []byte{}}, {Priority: 0, Data: []byte("last")}}},
}

func TestQueuesComeBackAsTheyWere(t *testing.T) {
	from, to := inNamespaces(t), inNamespaces(t)
	if err := Make(from, sample); err != nil {
		t.Fatal(err)
	}
	for range 2 { // saving changes nothing
		saved, err := Save(from, nil)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, saved)
	}
	saved, err := Save(from, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := Make(to, saved); err != nil {
		t.Fatal(err)
	}
	if saved, err = Save(to, nil); err != nil {
		t.Fatal(err)
	}
	compare(t, saved)
}

func compare(t *testing.T, got []Queue) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(sample) {
		t.Fatalf("got  %v\nwant %v", got, sample)
	}
}

func TestAQueueThatNobodySavedIsRefused(t *testing.T) {
	for _, q := range []Queue{
		{Name: "../up", MaxMessages: 1, MessageSize: 1},
		{Name: "", MaxMessages: 1, MessageSize: 1},
		{Name: "big", MaxMessages: 1, MessageSize: maxSize + 1},
		{Name: "many", MaxMessages: 1, MessageSize: 8, Messages: make([]Message, 2)},
	} {
		if err := Make(os.Getpid(), []Queue{q}); err == nil {
			t.Errorf("%+v was accepted", q)
		}
	}
}

func TestAnOpenNotificationIsNoticed(t *testing.T) {
	pid := inNamespaces(t)
	if err := Make(pid, sample); err != nil {
		t.Fatal(err)
	}
	if name, err := Notified(pid); name != "" || err != nil {
		t.Fatal(name, err)
	}
}

func TestAMessageThatCannotBePutBackDoesNotTakeTheOthersAlong(t *testing.T) {
	pid := inNamespaces(t)
	q := Queue{Name: "q", MaxMessages: 3, MessageSize: 4, Messages: []Message{{Data: []byte("one")}, {Data: []byte("too long")}, {Data: []byte("two")}}}
	if err := Make(pid, []Queue{q}); !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("got %v", err)
	}
	saved, err := Save(pid, nil)
	if err != nil {
		t.Fatal(err)
	}
	if m := saved[0].Messages; len(m) != 2 || string(m[0].Data) != "one" || string(m[1].Data) != "two" {
		t.Errorf("left: %v", m)
	}
}

func TestASaveThatWasCutShortIsMadeGood(t *testing.T) {
	pid := inNamespaces(t)
	if err := Make(pid, sample); err != nil {
		t.Fatal(err)
	}
	kept := map[string]Queue{}
	broken := errors.New("the disk is full")
	if _, err := Save(pid, func(q Queue) error { kept[q.Name] = q; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := Save(pid, func(Queue) error { return broken }); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	for _, left := range []int{0, 3, 4} { // messages of the full queue
		cut := sample[1]
		cut.Messages = cut.Messages[:left]
		for _, q := range []Queue{cut, kept["full"]} {
			if err := PutBack(pid, q); err != nil {
				t.Fatal(err)
			}
		}
		saved, err := Save(pid, nil)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, saved)
	}
}
