package server

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/migrate-hpc/migrate/agent/peer"
)

// Serve answers HTTP on l until ctx ends, then lets requests under way end.
func Serve(ctx context.Context, l net.Listener, h http.Handler, who func(context.Context, net.Conn) context.Context) error {
	srv := &http.Server{
		Handler: h, ConnContext: who,
		// A request that has arrived has no deadline: its answer may take long.
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 30 * time.Second, IdleTimeout: peer.IdleTime,
		MaxHeaderBytes: maxHeader,
		BaseContext:    func(net.Listener) context.Context { return ctx },
	}
	if who == nil { // peers, whose headers name all groups of a user
		srv.MaxHeaderBytes = http.DefaultMaxHeaderBytes
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := srv.Shutdown(end); err != nil {
		_ = srv.Close() // users that follow logs reconnect to the next agent
	}
	<-done
	return nil
}
