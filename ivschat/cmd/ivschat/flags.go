package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// flags are those of the command line.
type flags struct {
	listen, debug string
	config        string
	keyring, kek  string
	keyContext    string
	highWater     string
	valkey        string
	origins       string
	verbose       bool
	cpuProfile    string
	notice, over  time.Duration
	server        ivschat.Config
}

func parseFlags(args []string, stderr io.Writer) (flags, error) {
	var f flags
	set := flag.NewFlagSet("ivschat", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.StringVar(&f.listen, "listen", "127.0.0.1:8080", "`address`; port 0 takes a free one")
	set.StringVar(&f.debug, "debug", "", "`address` at which /debug/vars shows numbers to the operator (default: none;\nwithout -config they are at that of -listen, too)")
	set.StringVar(&f.config, "config", "", "JSON `file` of rooms and credentials (default: those of the demonstration)")
	set.StringVar(&f.keyring, "keyring", "", "sealed keyring `file`, which is followed (default: keys in memory)")
	set.StringVar(&f.kek, "kek", "", "`file` of the key that it is sealed under")
	set.StringVar(&f.keyContext, "key-context", "", "`text` that the keyring was made with")
	set.StringVar(&f.highWater, "high-water", "", "`file` for the highest serial of the keyring that was seen: older ones are refused")
	set.StringVar(&f.valkey, "valkey", "", "`addresses` of the Valkey or Redis server, or of nodes of a Cluster, that\nremembers spent tokens for all hosts, separated by commas (default: in memory)")
	set.StringVar(&f.origins, "origins", "", "further origins of web pages, separated by commas")
	set.BoolVar(&f.server.AllowUnsigned, "allow-unsigned", false, "mint for requests without a signature: for development only")
	set.BoolVar(&f.server.Join, "join", false, "with -config: serve the page, and /join, which lets in anybody as anyone")
	set.DurationVar(&f.server.TokenTTL, "token-ttl", 0, "how long a token can be used (default 1m)")
	set.IntVar(&f.server.MessageRate, "message-rate", 0, "messages a second and connection (default 10)")
	set.IntVar(&f.server.MaxConnections, "max-connections", 0, "connections at a time (default 10000)")
	set.DurationVar(&f.notice, "drain-notice", 5*time.Second, "after SIGTERM: how long /healthz says so before connections end")
	set.DurationVar(&f.over, "drain-over", 10*time.Second, "and how long their ends are spread over")
	set.BoolVar(&f.verbose, "v", false, "log every connection")
	set.StringVar(&f.cpuProfile, "cpuprofile", "", "`file` for a CPU profile of the whole run")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, errors.New("there are no arguments but flags")
	}
	return f, f.check()
}

// check finds flags that do not go together.
func (f flags) check() error {
	if (f.keyring == "") != (f.kek == "") {
		return errors.New("-keyring and -kek go together")
	}
	if f.highWater != "" && f.keyring == "" {
		return errors.New("-high-water is for a keyring")
	}
	if f.valkey != "" && f.keyring == "" {
		return errors.New("-valkey is for hosts that share keys: -keyring and -kek")
	}
	return nil
}

// serverConfig reads the files that the flags name.
func (f flags) serverConfig(ctx context.Context, stderr io.Writer) (c ivschat.Config, err error) {
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
		c.Registry, c.Join, c.Vars = ivschat.Demo(), true, true
	} else {
		data, err := os.ReadFile(f.config)
		if err != nil {
			return c, err
		}
		if c.Registry, err = ivschat.ParseRegistry(data); err != nil {
			return c, err
		}
	}
	if f.keyring != "" {
		c.Keys, err = f.follow(ctx)
	}
	return c, err
}

func (f flags) follow(ctx context.Context) (*keyring.Follower, error) {
	file := keyring.File{
		Name:      f.keyring,
		KEK:       keyring.KEKFile{Name: f.kek},
		Config:    keyring.Config{Context: f.keyContext},
		HighWater: f.highWater,
	}
	return file.Follow(ctx, time.Now())
}
