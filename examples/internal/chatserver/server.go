// Package chatserver is a chat service on chattoken: the operation
// CreateChatToken, and the gateway that its tokens open.
package chatserver

import (
	"context"
	"embed"
	"net/http"
	"time"
)

//go:embed page
var page embed.FS

// Config is what the operator decides.
type Config struct {
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Server is an http.Handler.
type Server struct{}

// New makes a server.
func New(Config) (*Server, error) { return &Server{}, nil }

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }

// Shutdown closes all connections.
func (s *Server) Shutdown(context.Context) error { return nil }
