package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"
)

// monitor is QEMU's control connection (QMP, docs/interop/qmp-spec of QEMU).
type monitor struct {
	mu   sync.Mutex
	conn net.Conn
	enc  *json.Encoder
	dec  *json.Decoder
}

// dialMonitor connects as soon as QEMU listens.
func dialMonitor(ctx context.Context, path string, alive func() error) (*monitor, error) {
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			m := &monitor{conn: conn, enc: json.NewEncoder(conn), dec: json.NewDecoder(conn)}
			_, err = m.do(ctx, "qmp_capabilities", nil)
			if err == nil {
				return m, nil
			}
			_ = conn.Close()
		}
		if dead := alive(); dead != nil {
			return nil, dead
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// do executes one command and returns what it returns.
func (m *monitor) do(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(time.Minute)
	}
	if err := m.conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := m.enc.Encode(request); err != nil {
		return nil, fmt.Errorf("QEMU, %s: %w", command, err)
	}
	for {
		var reply struct {
			Return json.RawMessage `json:"return"`
			Error  *struct {
				Desc string `json:"desc"`
			} `json:"error"`
		}
		if err := m.dec.Decode(&reply); err != nil {
			return nil, fmt.Errorf("QEMU, %s: %w", command, err)
		}
		switch {
		case reply.Error != nil:
			return nil, fmt.Errorf("QEMU, %s: %s", command, reply.Error.Desc)
		case reply.Return != nil:
			return reply.Return, nil
		}
		// The greeting, or an event.
	}
}

// await polls a query until its status is one of those wanted.
func (m *monitor) await(ctx context.Context, query, want string) error {
	for {
		data, err := m.do(ctx, query, nil)
		if err != nil {
			return err
		}
		var state struct {
			Status string `json:"status"`
			Desc   string `json:"error-desc"`
		}
		if err := json.Unmarshal(data, &state); err != nil {
			return err
		}
		if state.Status == want {
			return nil
		}
		if state.Status == "failed" {
			return fmt.Errorf("QEMU, %s: %s", query, state.Desc)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("QEMU, %s is %q: %w", query, state.Status, context.Cause(ctx))
		case <-time.After(10 * time.Millisecond):
		}
	}
}
