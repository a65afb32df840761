// Command ivschat is a chat service with the interface of Amazon IVS Chat.
//
// Without flags it runs on loopback, with keys in memory and the rooms and
// credentials of a demonstration, and prints what to try. -help lists the
// flags.
//
// SIGTERM drains: /healthz says 503, then the server sends its clients to other
// hosts, one after the other. An interrupt, or a second signal, stops at once.
// SIGHUP reads the rooms and credentials of -config again.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/keyring"
)

func main() {
	// A channel each, because a full channel loses signals.
	stops, hangups := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(stops, os.Interrupt, syscall.SIGTERM)
	signal.Notify(hangups, syscall.SIGHUP)
	p := process{os.Args[1:], os.Getenv, os.Stdout, os.Stderr, stops, hangups}
	if err := p.run(); err != nil {
		fmt.Fprintf(os.Stderr, "ivschat: %s\n", harmless(err))
		os.Exit(1)
	}
}

// harmless returns the text of an error, unless it may contain a KEK that
// somebody gave as a file's name.
func harmless(err error) string {
	if text := err.Error(); !strings.Contains(text, keyring.KEKPrefix) {
		return text
	}
	return "a KEK was given where it does not belong"
}

// process is what the command uses of its process, so that a test can replace
// it.
type process struct {
	args           []string
	getenv         func(string) string
	stdout, stderr io.Writer
	stops, hangups <-chan os.Signal
}

// run serves until a signal ends it.
func (p process) run() error {
	f, err := parseFlags(p.args, p.getenv)
	if errors.Is(err, flag.ErrHelp) {
		io.WriteString(p.stdout, usage)
		return nil
	}
	if err != nil {
		return fmt.Errorf("%w (-help lists the flags)", err)
	}
	stopProfile, err := startProfile(f.cpuProfile)
	if err != nil {
		return err
	}
	defer stopProfile()
	config, closeGuard, err := f.open(context.Background(), p.stderr)
	if err != nil {
		return err
	}
	defer closeGuard()
	m := newMetrics()
	config.Observe = m.gateway.Observe
	server, err := ivschat.New(config)
	if err != nil {
		return err
	}
	if err := m.watch(server); err != nil {
		return err
	}
	return p.serve(f, server, m, config.Log)
}
