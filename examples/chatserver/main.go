// Command chatserver is a chat service on loopback.
package main

import (
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/seed17cb2b26/chattoken/examples/internal/chatserver"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "address")
	flag.Parse()
	s, err := chatserver.New(chatserver.Config{})
	if err != nil {
		log.Fatal(err)
	}
	l, err := net.Listen("tcp", *listen)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("chatserver: listening on http://%s\n", l.Addr())
	log.Fatal(http.Serve(l, s))
}
