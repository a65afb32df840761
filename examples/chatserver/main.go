// Command chatserver is a chat service on chattoken, with the interface of
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
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/seed17cb2b26/chattoken/examples/internal/chatserver"
	"github.com/seed17cb2b26/chattoken/keyring"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "chatserver: %v\n", err)
		os.Exit(1)
	}
}

// flags are those of the command line.
type flags struct {
	listen, config string
	keyring, kek   string
	keyContext     string
	valkey         string
	origins        string
	verbose        bool
	cpuProfile     string
	server         chatserver.Config
}

func parseFlags(args []string, stderr io.Writer) (flags, error) {
	var f flags
	set := flag.NewFlagSet("chatserver", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.listen, "listen", "127.0.0.1:8080", "`address`; port 0 takes a free one")
	set.StringVar(&f.config, "config", "", "JSON `file` of rooms and credentials (default: those of the demonstration)")
	set.StringVar(&f.keyring, "keyring", "", "sealed keyring `file`, which is followed (default: keys in memory)")
	set.StringVar(&f.kek, "kek", "", "`file` of the key that it is sealed under")
	set.StringVar(&f.keyContext, "key-context", "", "`text` that the keyring was made with")
	set.StringVar(&f.valkey, "valkey", "", "`addresses` of the Valkey or Redis server, or of nodes of a Cluster, that\nremembers spent tokens for all hosts, separated by commas (default: in memory)")
	set.StringVar(&f.origins, "origins", "", "further origins of web pages, separated by commas")
	set.BoolVar(&f.server.AllowUnsigned, "allow-unsigned", false, "mint for requests without a signature: for development only")
	set.BoolVar(&f.server.Join, "join", false, "with -config: serve the page, and /join, which lets in anybody as anyone")
	set.DurationVar(&f.server.TokenTTL, "token-ttl", 0, "how long a token can be used (default 1m)")
	set.IntVar(&f.server.MessageRate, "message-rate", 0, "messages a second and connection (default 10)")
	set.IntVar(&f.server.MaxConnections, "max-connections", 0, "connections at a time (default 10000)")
	set.BoolVar(&f.verbose, "v", false, "log every connection")
	set.StringVar(&f.cpuProfile, "cpuprofile", "", "`file` for a CPU profile of the whole run")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, errors.New("there are no arguments but flags")
	}
	if (f.keyring == "") != (f.kek == "") {
		return f, errors.New("-keyring and -kek go together")
	}
	if f.valkey != "" && f.keyring == "" {
		return f, errors.New("-valkey is for hosts that share keys: -keyring and -kek")
	}
	return f, nil
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
	server, err := chatserver.New(config)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", f.listen)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "chatserver: listening on http://%s\n", l.Addr())
	if f.config == "" {
		fmt.Fprintf(stdout, instructions, l.Addr(), config.Registry.Rooms[0])
	}
	return serve(ctx, server, l)
}

// serve serves l until ctx ends, and then gives the connections ten seconds to
// close.
func serve(ctx context.Context, server *chatserver.Server, l net.Listener) error {
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		return err
	}
	if err := <-failed; err != http.ErrServerClosed {
		return err
	}
	return nil
}

// serverConfig reads the files that the flags name.
func (f flags) serverConfig(ctx context.Context, stderr io.Writer) (c chatserver.Config, err error) {
	c = f.server
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	c.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if f.origins != "" {
		c.Origins = strings.Split(f.origins, ",")
	}
	if f.config == "" {
		c.Registry, c.Join = chatserver.Demo(), true
	} else {
		data, err := os.ReadFile(f.config)
		if err != nil {
			return c, err
		}
		if c.Registry, err = chatserver.ParseRegistry(data); err != nil {
			return c, err
		}
	}
	if f.keyring != "" {
		c.Follower, err = f.follow(ctx)
	}
	return c, err
}

func (f flags) follow(ctx context.Context) (*keyring.Follower, error) {
	file := keyring.File{Name: f.keyring, KEK: keyring.KEKFile{Name: f.kek}, Config: keyring.Config{Context: f.keyContext}}
	return file.Follow(ctx, time.Now())
}

const instructions = `
A page to chat on: http://%[1]s/

To mint a token as an application would:

AWS_ACCESS_KEY_ID=AKIDEXAMPLE \
AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY \
AWS_DEFAULT_REGION=us-west-2 AWS_EC2_METADATA_DISABLED=true AWS_PAGER= \
aws ivschat create-chat-token --endpoint-url http://%[1]s \
  --room-identifier %[2]s \
  --user-id 11231234 --capabilities SEND_MESSAGE DELETE_MESSAGE \
  --session-duration-in-minutes 30 --attributes displayName=DemoUser

The credentials are public and /join believes everybody: keep this on loopback.
`
