package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"testing"
)

func code(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func TestLogsThatAreCutTellHowFarTheyCameAndThatTheAgentIsGone(t *testing.T) {
	socket := serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "seven..")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	var out bytes.Buffer
	n, err := NewClient(socket).Logs(t.Context(), "j", "stdout", 0, true, &out)
	if n != 7 || out.Len() != 7 || code(err) != CodeUnreachable {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestLogsReturnTheWritersErrorAsItIs(t *testing.T) {
	socket := serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") }))
	full := errors.New("no space")
	_, err := NewClient(socket).Logs(t.Context(), "j", "stdout", 0, false, writerFunc(func([]byte) (int, error) { return 0, full }))
	if err != full {
		t.Errorf("got %v", err)
	}
}

func TestClientErrorOfAnAgentThatDoesNotAnswer(t *testing.T) {
	status := func(n int) string {
		return serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(n) }))
	}
	cut := serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"node":`)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	for name, c := range map[string]struct {
		socket string
		want   Code
	}{
		"no socket":     {filepath.Join(t.TempDir(), "none"), CodeUnreachable},
		"bad gateway":   {status(http.StatusBadGateway), CodeUnreachable},
		"cut reply":     {cut, CodeUnreachable},
		"broken agent":  {status(http.StatusInternalServerError), CodeFailed},
		"not an answer": {status(http.StatusOK), CodeFailed},
	} {
		if _, err := NewClient(c.socket).Wait(t.Context(), "j"); code(err) != c.want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestClientReturnsTheErrorOfItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := NewClient("/nowhere").Remove(ctx, "j", false); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestMoveEventsWithoutAResultAreInDoubt(t *testing.T) {
	for name, body := range map[string]string{"cut": `{"phase":"freeze"}` + "\n", "garbage": "{\n"} {
		socket := serveUnix(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, body) }))
		_, err := NewClient(socket).Move(t.Context(), "j", MoveRequest{}, func(Event) {})
		if ExitStatus(err) != ExitInDoubt {
			t.Errorf("%s: %v", name, err)
		}
	}
}
