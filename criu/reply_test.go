package criu

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/checkpoint-restore/go-criu/v7/rpc"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"

	"github.com/migrate-hpc/migrate/testenv"
)

// messagesIn takes a byte string apart: each message behind its length, a u8.
func messagesIn(data []byte) (all [][]byte) {
	for len(data) > 0 {
		n := min(int(data[0]), len(data)-1)
		all, data = append(all, data[1:1+n]), data[1+n:]
	}
	return all
}

func joined(messages ...*rpc.CriuResp) (b []byte) {
	for _, m := range messages {
		data, err := proto.Marshal(m)
		if err != nil {
			panic(err)
		}
		b = append(append(b, byte(len(data))), data...)
	}
	return b
}

// played is a worker whose CRIU says the messages, one for each that it hears, and hangs up.
func played(t testing.TB, messages [][]byte) (w *worker, ended func() (heard int)) {
	t.Helper()
	conn, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	w = &worker{conn: conn, done: make(chan struct{}), buf: make([]byte, maxMessage)}
	heard := 0
	var criu sync.WaitGroup
	criu.Go(func() {
		defer close(w.done)
		defer theirs.Close()
		heard = answers(theirs, messages)
	})
	return w, func() int {
		conn.Close()
		criu.Wait()
		return heard
	}
}

// answers hears a message before it sends one.
func answers(theirs *os.File, messages [][]byte) (heard int) {
	buf := make([]byte, maxMessage)
	fd := int(theirs.Fd())
	for _, m := range append(slices.Clip(messages), nil) {
		n, err := retried(func() (int, error) { return unix.Read(fd, buf) })
		if err != nil || n == 0 {
			return heard
		}
		heard++
		if m == nil {
			return heard
		}
		if _, err := retried(func() (int, error) { return 0, unix.Send(fd, m, unix.MSG_NOSIGNAL) }); err != nil {
			return heard
		}
	}
	return heard
}

func retried(call func() (int, error)) (int, error) {
	for {
		if n, err := call(); !errors.Is(err, unix.EINTR) {
			return n, err
		}
	}
}

var (
	success = &rpc.CriuResp{Type: rpc.CriuReqType_RESTORE.Enum(), Success: proto.Bool(true), Restore: &rpc.CriuRestoreResp{Pid: proto.Int32(7)}}
	notice  = &rpc.CriuResp{Type: rpc.CriuReqType_NOTIFY.Enum(), Success: proto.Bool(true), Notify: &rpc.CriuNotify{Script: proto.String("post-restore"), Pid: proto.Int32(7)}}
)

func TestOnlyTheAnswerToTheRequestIsASuccess(t *testing.T) {
	other := &rpc.CriuResp{Type: rpc.CriuReqType_DUMP.Enum(), Success: proto.Bool(true)}
	failed := &rpc.CriuResp{Type: rpc.CriuReqType_RESTORE.Enum(), Success: proto.Bool(false), CrErrno: proto.Int32(int32(unix.EPERM))}
	whole := joined(success)
	for name, test := range map[string]struct {
		say []byte
		ok  bool
	}{
		"success":              {whole, true},
		"notified first":       {joined(notice, notice, success), true},
		"nothing":              {nil, false},
		"only notified":        {joined(notice), false},
		"success of a dump":    {joined(other), false},
		"failure":              {joined(failed), false},
		"cut short":            {append([]byte{whole[0] - 1}, whole[1:len(whole)-1]...), false},
		"no protobuf":          {[]byte("\x03\xff\xff\xff"), false},
		"an empty message":     {[]byte{0}, false},
		"success after others": {append(joined(other), whole...), false},
	} {
		w, ended := played(t, messagesIn(test.say))
		_, err := w.converse(testenv.Bounded(t), &rpc.CriuReq{Type: rpc.CriuReqType_RESTORE.Enum()}, Run{})
		ended()
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAReplyLargerThanAnyIsRefused(t *testing.T) {
	conn, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer theirs.Close()
	w := &worker{conn: conn, buf: make([]byte, 64)}
	if err := unix.Send(int(theirs.Fd()), make([]byte, 65), 0); err != nil {
		t.Fatal(err)
	}
	if r, err := w.receive(); err == nil {
		t.Errorf("taken: %v", r)
	}
}

func TestACRIUThatSaysNothingIsGivenUp(t *testing.T) {
	conn, theirs, err := socketPair()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	defer theirs.Close()
	ctx, cancel := context.WithCancelCause(testenv.Bounded(t))
	cancel(errRefused)
	w := &worker{conn: conn, done: make(chan struct{}), buf: make([]byte, maxMessage)}
	_, err = w.converse(ctx, &rpc.CriuReq{Type: rpc.CriuReqType_RESTORE.Enum()}, Run{Grace: time.Millisecond})
	if !errors.Is(err, errRefused) {
		t.Errorf("got %v", err)
	}
}

// FuzzReplies has CRIU say anything. Only a success of what was asked for, behind
// nothing but notifications, is one; each of those is answered.
func FuzzReplies(f *testing.F) {
	f.Add(joined(success))
	f.Add(joined(notice, success))
	f.Add(joined(notice))
	f.Add([]byte("\x00\x02\x08\x01"))
	f.Fuzz(func(t *testing.T, say []byte) {
		messages := messagesIn(say)
		wants, notices := false, 0
		for _, m := range messages {
			r := new(rpc.CriuResp)
			if len(m) == 0 || proto.Unmarshal(m, r) != nil {
				break
			}
			if r.GetType() != rpc.CriuReqType_NOTIFY {
				wants = r.GetType() == rpc.CriuReqType_RESTORE && r.GetSuccess()
				break
			}
			notices++
		}
		told := 0
		w, ended := played(t, messages)
		resp, err := w.converse(testenv.Bounded(t), &rpc.CriuReq{Type: rpc.CriuReqType_RESTORE.Enum()}, Run{
			Notify: func(context.Context, string, int) error { told++; return nil },
		})
		if heard := ended(); heard != told+1 && heard != told { // the last answer may find nobody
			t.Errorf("%d of %d notifications were answered", heard-1, told)
		}
		if (err == nil) != wants || told != notices || err == nil && resp == nil {
			t.Errorf("%v, %d notifications; want success %v, %d", err, told, wants, notices)
		}
	})
}
