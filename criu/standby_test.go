package criu

import (
	"context"
	"errors"
	"testing"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"

	"github.com/migrate-hpc/migrate/testenv"
)

func TestACRIUThatStandsByServesItsRequest(t *testing.T) {
	s, err := realCRIU(t).Start(testenv.Bounded(t), Run{})
	if err != nil {
		t.Fatal(err)
	}
	pid := 0
	resp, err := s.Do(testenv.Bounded(t), &rpc.CriuReq{Type: rpc.CriuReqType_VERSION.Enum()}, Run{Started: func(p int) error { pid = p; return nil }})
	if err != nil || resp.GetVersion().GetMajorNumber() == 0 {
		t.Errorf("got %v, %v", resp, err)
	}
	s.Close()
	if pid == 0 || !errors.Is(unix.Kill(pid, 0), unix.ESRCH) {
		t.Errorf("CRIU (pid %d) is left", pid)
	}
}

func TestACRIUThatIsNotNeededEndsByItself(t *testing.T) {
	s, err := realCRIU(t).Start(testenv.Bounded(t), Run{})
	if err != nil {
		t.Fatal(err)
	}
	w := s.w
	for range 2 {
		s.Close()
	}
	if w.exit == nil || w.exit.Error() != "exit status 255" { // CRIU's word for a client that is gone; not killed
		t.Errorf("it ended with %v", w.exit)
	}
}

func TestACRIUThatDiedWhileItStoodByIsAnError(t *testing.T) {
	s, err := impostor(t, "exit 3").Start(testenv.Bounded(t), Run{})
	if err != nil {
		t.Fatal(err)
	}
	<-s.w.done
	if _, err := s.Do(testenv.Bounded(t), &rpc.CriuReq{Type: rpc.CriuReqType_VERSION.Enum()}, Run{}); !errors.Is(err, ErrVanished) {
		t.Errorf("got %v", err)
	}
}

func TestNoCRIUIsStartedOnceTheContextHasEnded(t *testing.T) {
	ctx, cancel := context.WithCancelCause(context.Background())
	cancel(errRefused)
	if s, err := realCRIU(t).Start(ctx, Run{}); !errors.Is(err, errRefused) || s != nil {
		t.Errorf("got %v, %v", s, err)
	}
}
