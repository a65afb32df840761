package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/ivschat"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/keyring/kekhelper"
)

const usage = `Usage: ivschat [flags]

A chat service with the interface of Amazon IVS Chat. Without flags it is a
demonstration, on loopback and with public credentials.

What is served
  -listen ADDRESS           default 127.0.0.1:8080; port 0 takes a free one
  -config FILE              rooms and credentials, in JSON; read again on SIGHUP
  -join                     with -config: the page, and /join, which lets in
                            anybody as anyone
  -allow-unsigned           requests need no signature: for development only
  -debug ADDRESS            what is counted, at /debug/vars and, for Prometheus,
                            at /metrics, and nothing else

Keys (default: made in memory, gone with the process)
  -keyring FILE             a sealed keyring, which is followed
  -kek-file FILE            the key that it is sealed under (KEK), or
  -kek-command COMMAND      a program that has the KEK, and its arguments, or
                            else the KEK itself is in CHATTOKEN_KEK
  -context TEXT             the context that the keyring was made with; if not
                            given, CHATTOKEN_CONTEXT
  -high-water FILE          where to keep the highest serial that was seen: an
                            older keyring is then refused
  -insecure-any-mode        use both files whatever their mode and owner, as
                            with fsGroup in Kubernetes
  -refuse-form-1            take no keyring of sealed form 1

What remembers spent and revoked tokens
  -guard memory             the default, for one host
  -guard valkey://[USER@]HOST:PORT[,HOST:PORT...][/DATABASE][?OPTIONS]
  -guard etcd://[USER@]HOST:PORT[,HOST:PORT...][?OPTIONS]
                            for several hosts with one keyring. valkeys:// and
                            etcds:// use TLS. Options: prefix, timeout,
                            max-waiting, max-revocations; with TLS the PEM files
                            ca, cert, key; for Valkey accept-eviction=true,
                            accept-no-append-only-file=true
  -guard-password-file FILE read for each new connection; if not given, the
                            password is in CHATTOKEN_GUARD_PASSWORD

Limits
  -token-ttl DURATION       how long a token can be used; default 1m
  -message-rate N           messages a second and connection; default 10
  -max-connections N        at a time; default 10000
  -max-connections-per-user N
                            default: no limit

Browsers and proxies
  -origins LIST             of pages that may connect, such as
                            https://chat.example.com, separated by commas;
                            default: the server's own, as Host has it
  -forwarded-proto HEADER   in which a trusted proxy says http or https

Stopping: SIGTERM drains; an interrupt, or a second signal, stops at once
  -drain-notice DURATION    how long /healthz says no first; default 5s
  -drain-over DURATION      how long the connections take to end, one after the
                            other; default 10s

Looking inside
  -v                        log every connection
  -cpuprofile FILE          of the whole run
`

// The environment variables that stand in for flags.
const (
	envKEK           = "CHATTOKEN_KEK"
	envContext       = "CHATTOKEN_CONTEXT"
	envGuardPassword = "CHATTOKEN_GUARD_PASSWORD"
)

// flags are the flags, from the command line or the environment.
type flags struct {
	listen, debug string
	config        string
	keyring       keyring.File // no name means keys in memory
	kekFile       string
	kekCommand    string
	kek           string // the KEK itself
	guardURL      string
	guard         guardURL // from -guard
	passwordFile  string
	password      string
	notice, over  time.Duration
	verbose       bool
	cpuProfile    string
	server        ivschat.Config
}

// parseFlags reads the command line. It returns flag.ErrHelp for -help.
func parseFlags(args []string, getenv func(string) string) (flags, error) {
	var f flags
	set := f.set()
	if err := set.Parse(args); err != nil {
		return f, err
	}
	if set.NArg() > 0 {
		return f, fmt.Errorf("%q is not a flag", set.Arg(0))
	}
	var err error
	if f.guard, err = parseGuard(f.guardURL); err != nil {
		return f, err
	}
	if f.keyring.Name != "" {
		f.kek = getenv(envKEK)
		f.keyring.Config.Context = cmp.Or(f.keyring.Config.Context, getenv(envContext))
	}
	f.password = getenv(envGuardPassword)
	return f, f.check()
}

// set returns the flags, which set f. The usage text explains them.
func (f *flags) set() *flag.FlagSet {
	set := flag.NewFlagSet("ivschat", flag.ContinueOnError)
	set.SetOutput(io.Discard)

	set.StringVar(&f.listen, "listen", "127.0.0.1:8080", "")
	set.StringVar(&f.config, "config", "", "")
	set.BoolVar(&f.server.Join, "join", false, "")
	set.BoolVar(&f.server.AllowUnsigned, "allow-unsigned", false, "")
	set.StringVar(&f.debug, "debug", "", "")

	set.StringVar(&f.keyring.Name, "keyring", "", "")
	set.StringVar(&f.kekFile, "kek-file", "", "")
	set.StringVar(&f.kekCommand, "kek-command", "", "")
	set.StringVar(&f.keyring.Config.Context, "context", "", "")
	set.StringVar(&f.keyring.HighWater, "high-water", "", "")
	set.BoolVar(&f.keyring.InsecureAnyMode, "insecure-any-mode", false, "")
	set.BoolVar(&f.keyring.Config.RefuseForm1, "refuse-form-1", false, "")

	set.StringVar(&f.guardURL, "guard", memory, "")
	set.StringVar(&f.passwordFile, "guard-password-file", "", "")

	set.DurationVar(&f.server.TokenTTL, "token-ttl", 0, "")
	set.IntVar(&f.server.MessageRate, "message-rate", 0, "")
	set.IntVar(&f.server.MaxConnections, "max-connections", 0, "")
	set.IntVar(&f.server.MaxConnectionsPerUser, "max-connections-per-user", 0, "")

	set.Func("origins", "", func(text string) error {
		f.server.Origins = strings.Split(text, ",")
		return nil
	})
	set.StringVar(&f.server.ForwardedProto, "forwarded-proto", "", "")

	set.DurationVar(&f.notice, "drain-notice", 5*time.Second, "")
	set.DurationVar(&f.over, "drain-over", 10*time.Second, "")

	set.BoolVar(&f.verbose, "v", false, "")
	set.StringVar(&f.cpuProfile, "cpuprofile", "", "")
	return set
}

// check refuses flags that don't go together.
func (f flags) check() error {
	shared := f.guard.engine != memory
	switch {
	case f.keyring.Name == "" && (f.kekFile != "" || f.kekCommand != "" || f.keyring != keyring.File{}):
		return errors.New("there is no -keyring, but something that is for one")
	case f.keyring.Name != "" && f.kekFile == "" && f.kekCommand == "" && f.kek == "":
		return errors.New("there is no KEK: give -kek-file or -kek-command, or set " + envKEK)
	case f.kekFile != "" && f.kekCommand != "":
		return errors.New("-kek-file and -kek-command are two KEKs")
	case shared && f.keyring.Name == "":
		return errors.New("-guard is for hosts that share keys: it needs -keyring")
	case f.passwordFile != "" && !shared:
		return errors.New("-guard-password-file is for a -guard with servers")
	case f.guard.user != "" && f.passwordFile == "" && f.password == "":
		return errors.New("there is no password: give -guard-password-file, or set " + envGuardPassword)
	case f.notice < 0 || f.over < 0:
		return errors.New("a negative duration")
	}
	return nil
}

// open reads the files that the flags name, and reaches the servers. Call
// closeGuard when the server has stopped.
func (f flags) open(ctx context.Context, stderr io.Writer) (c ivschat.Config, closeGuard func(), err error) {
	c, closeGuard = f.server, func() {}
	level := slog.LevelInfo
	if f.verbose {
		level = slog.LevelDebug
	}
	c.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: level}))
	if f.config == "" {
		c.Registry, c.Join, c.Vars = ivschat.Demo(), true, true
	} else if c.Registry, err = readRegistry(f.config); err != nil {
		return c, closeGuard, err
	}
	if f.keyring.Name == "" {
		return c, closeGuard, nil
	}
	keys, err := f.follow(ctx, stderr)
	if err != nil {
		return c, closeGuard, err
	}
	c.Keys = keys
	if f.guard.engine == memory {
		return c, closeGuard, nil
	}
	guard, stats, err := f.guard.open(ctx, keys.Ring().Limits(), f.credentials())
	if err != nil {
		return c, closeGuard, err
	}
	c.Guard, c.GuardStats = guard, stats
	return c, guard.Close, nil
}

// credentials returns a function for the guard's user and password. The guard
// calls it before each new connection, so a new password needs no restart.
func (f flags) credentials() func() (string, string, error) {
	switch {
	case f.passwordFile != "":
		return func() (string, string, error) {
			text, err := os.ReadFile(f.passwordFile)
			return f.guard.user, strings.TrimRight(string(text), "\r\n"), err
		}
	case f.password != "":
		return func() (string, string, error) { return f.guard.user, f.password, nil }
	}
	return nil
}

func readRegistry(name string) (ivschat.Registry, error) {
	data, err := os.ReadFile(name)
	if err != nil {
		return ivschat.Registry{}, err
	}
	r, err := ivschat.ParseRegistry(data)
	if err != nil {
		return r, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

// follow returns the keys of the sealed keyring.
func (f flags) follow(ctx context.Context, stderr io.Writer) (_ *keyring.Follower, err error) {
	file := f.keyring
	if file.KEK, err = f.openKEK(stderr); err != nil {
		return nil, err
	}
	return file.Follow(ctx, time.Now())
}

func (f flags) openKEK(stderr io.Writer) (keyring.KEK, error) {
	switch {
	case f.kekFile != "":
		return keyring.KEKFile{Name: f.kekFile, InsecureAnyMode: f.keyring.InsecureAnyMode}, nil
	case f.kekCommand != "":
		return kekhelper.Command{Args: strings.Fields(f.kekCommand), Stderr: stderr}, nil
	}
	kek, err := keyring.ParseKEK(strings.TrimSuffix(f.kek, "\n"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", envKEK, err)
	}
	return kek, nil
}
