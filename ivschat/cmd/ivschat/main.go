// Command ivschat is a chat service on chattoken, with the interface of
// Amazon IVS Chat. Without flags it runs on loopback, with keys in memory and
// the rooms and credentials of a demonstration. README.md, one directory up,
// says more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed17cb2b26/chattoken/ivschat"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "ivschat: %v\n", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	f, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	stopProfile, err := startProfile(f.cpuProfile)
	if err != nil {
		return err
	}
	defer stopProfile()
	config, err := f.serverConfig(ctx, stderr)
	if err != nil {
		return err
	}
	guard, err := f.useValkey(ctx, &config)
	if err != nil {
		return err
	}
	defer guard.Close()
	server, err := ivschat.New(config)
	if err != nil {
		return err
	}
	return f.serve(ctx, server, stdout)
}
