// Echo is both ends of a TCP connection that lasts: "serve ADDRESS" sends back what
// it gets, "talk ADDRESS" sends numbered blocks, wants each of them back byte by byte,
// and prints "n NUMBER" for it.
package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: echo serve|talk ADDRESS")
		os.Exit(2)
	}
	do := talk
	if os.Args[1] == "serve" {
		do = serve
	}
	if err := do(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(address string) error {
	var config net.ListenConfig
	config.SetMultipathTCP(false) // CRIU cannot save such sockets
	l, err := config.Listen(context.Background(), "tcp", address)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			_, _ = io.Copy(conn, conn) // the peer notices the end
			_ = conn.Close()
		}()
	}
}

func talk(address string) error {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return err
	}
	got := make([]byte, 3000)
	for n := 0; ; n++ {
		block := pattern(n, len(got))
		if _, err := conn.Write(block); err != nil {
			return err
		}
		if _, err := io.ReadFull(conn, got); err != nil {
			return err
		}
		if !bytes.Equal(got, block) {
			return fmt.Errorf("block %d came back changed", n)
		}
		fmt.Println("n", n)
		time.Sleep(20 * time.Millisecond)
	}
}

func pattern(n, size int) []byte {
	b := make([]byte, 0, size)
	for i := uint32(0); len(b) < size; i++ {
		b = binary.LittleEndian.AppendUint32(b, uint32(n)*2654435761+i*40503)
	}
	return b[:size]
}
