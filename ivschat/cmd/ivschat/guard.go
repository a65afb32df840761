package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
)

// guardURL is what -guard says.
type guardURL struct {
	engine    string // "memory", "valkey" or "etcd"
	tls       bool
	user      string
	addresses []string
	database  int

	ca, cert, key                          string // PEM files
	prefix                                 string
	timeout                                time.Duration
	maxRevocations, maxWaiting             int
	acceptEviction, acceptNoAppendOnlyFile bool
}

const memory = "memory"

// parseGuard reads the text of -guard. It may have several hosts, so package
// net/url can't parse it.
func parseGuard(text string) (g guardURL, err error) {
	if text == memory {
		return guardURL{engine: memory}, nil
	}
	scheme, rest, ok := strings.Cut(text, "://")
	g.engine = strings.TrimSuffix(scheme, "s")
	g.tls = g.engine != scheme
	if !ok || g.engine != "valkey" && g.engine != "etcd" {
		return g, errors.New("-guard: neither memory, valkey://, valkeys://, etcd:// nor etcds://")
	}
	rest, query, _ := strings.Cut(rest, "?")
	if err := g.parseHosts(rest); err != nil {
		return g, err
	}
	return g, g.parseOptions(query)
}

func (g *guardURL) parseHosts(text string) (err error) {
	if user, rest, ok := strings.Cut(text, "@"); ok {
		if strings.Contains(user, ":") {
			return errors.New("-guard: others see the command line: the password goes into -guard-password-file or " + envGuardPassword)
		}
		if g.user, err = url.PathUnescape(user); err != nil {
			return errors.New("-guard: the user's % escapes")
		}
		text = rest
	}
	hosts, path, _ := strings.Cut(text, "/")
	g.addresses = strings.Split(hosts, ",")
	if slices.Contains(g.addresses, "") {
		return errors.New("-guard: an empty address")
	}
	if path == "" {
		return nil
	}
	if g.database, err = strconv.Atoi(path); err != nil || g.engine != "valkey" {
		return errors.New("-guard: only the number of a Valkey database may follow the addresses")
	}
	return nil
}

// options are the options after a "?". A flag set parses them.
func (g *guardURL) options() *flag.FlagSet {
	set := flag.NewFlagSet("-guard", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&g.prefix, "prefix", "", "")
	set.DurationVar(&g.timeout, "timeout", 0, "")
	set.IntVar(&g.maxRevocations, "max-revocations", 0, "")
	set.IntVar(&g.maxWaiting, "max-waiting", 0, "")
	if g.tls {
		set.StringVar(&g.ca, "ca", "", "")
		set.StringVar(&g.cert, "cert", "", "")
		set.StringVar(&g.key, "key", "", "")
	}
	if g.engine == "valkey" {
		set.BoolVar(&g.acceptEviction, "accept-eviction", false, "")
		set.BoolVar(&g.acceptNoAppendOnlyFile, "accept-no-append-only-file", false, "")
	}
	return set
}

func (g *guardURL) parseOptions(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return errors.New("-guard: malformed options")
	}
	set := g.options()
	for name, all := range values {
		if len(all) > 1 {
			return fmt.Errorf("-guard: %s is there twice", name)
		}
		if err := set.Set(name, all[0]); err != nil {
			return fmt.Errorf("-guard: %s: %w", name, err)
		}
	}
	if (g.cert == "") != (g.key == "") {
		return errors.New("-guard: cert and key go together")
	}
	return nil
}

// guard is a guard that several hosts share.
type guard interface {
	gateway.Guard
	Close()
}

// open makes the guard. stats returns its counters.
func (g guardURL) open(ctx context.Context, limits keyring.Limits, credentials func() (user, password string, err error)) (_ guard, stats func() any, err error) {
	secure, err := g.tlsConfig()
	if err != nil {
		return nil, nil, err
	}
	if g.engine == "etcd" {
		made, err := etcd.New(ctx, etcd.Config{
			Endpoints: g.addresses, Credentials: credentials, TLS: secure, Prefix: g.prefix, Limits: limits,
			Timeout: g.timeout, MaxWaiting: g.maxWaiting, MaxRevocations: g.maxRevocations,
		})
		return made, func() any { return made.Stats() }, err
	}
	made, err := valkey.New(ctx, valkey.Config{
		Addresses: g.addresses, Credentials: credentials, TLS: secure, Database: g.database, Prefix: g.prefix, Limits: limits,
		Timeout: g.timeout, MaxWaiting: g.maxWaiting, MaxRevocations: g.maxRevocations,
		AcceptEviction: g.acceptEviction, AcceptNoAppendOnlyFile: g.acceptNoAppendOnlyFile,
	})
	return made, func() any { return made.Stats() }, err
}

func (g guardURL) tlsConfig() (*tls.Config, error) {
	if !g.tls {
		return nil, nil
	}
	c := new(tls.Config)
	if g.ca != "" {
		pem, err := os.ReadFile(g.ca)
		if err != nil {
			return nil, err
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: no certificate", g.ca)
		}
	}
	if g.cert != "" {
		pair, err := tls.LoadX509KeyPair(g.cert, g.key)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
