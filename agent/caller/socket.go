package caller

import (
	"context"
	"net"
)

// FromSocket says on whose behalf requests on a connection are made. A request without
// a caller is refused.
func FromSocket(ctx context.Context, conn net.Conn) context.Context {
	if g, ok := conn.(*limitedConn); ok {
		return context.WithValue(ctx, ContextKey{}, g.caller)
	}
	return ctx
}
