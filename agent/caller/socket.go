package caller

import (
	"context"
	"net"
)

// FromSocket puts the caller of a connection of a ConnLimit into its context, under ContextKey.
// The server refuses requests without one.
func FromSocket(ctx context.Context, conn net.Conn) context.Context {
	if g, ok := conn.(*limitedConn); ok {
		return context.WithValue(ctx, ContextKey{}, g.caller)
	}
	return ctx
}
