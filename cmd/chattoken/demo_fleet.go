package main

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

const demoNext = `
Try next:

   chattoken create-chat-token -h       mint on the command line
   go run -C ivschat ./cmd/ivschat      chat in two browser windows (in a clone)
   examples/README.md                   a gateway in sixty lines
   GUARDS.md                            a guard for a fleet
   KEYS.md                              keys that hosts share
`

// fleet is two gateways that share keys and a guard. They share it in memory;
// those of a real fleet share a server.
type fleet struct {
	*demonstration
	first, second *gateway.Gateway
	stop          context.CancelFunc
	user          *gateway.Participant // connected to the first
	unused        string               // another token of the user
}

func (d *demonstration) newFleet() (*fleet, error) {
	keys, err := keyring.NewInMemory(d.opener.Ring)
	if err != nil {
		return nil, err
	}
	f := &fleet{demonstration: d}
	var ctx context.Context
	ctx, f.stop = context.WithCancel(context.Background())
	for _, g := range []**gateway.Gateway{&f.first, &f.second} {
		*g, err = gateway.New(gateway.Config{
			Keys: keys, Guard: d.guard, Now: d.opener.Now,
			Sources: []gateway.Source{gateway.Bearer()},
		})
		if err != nil {
			f.stop()
			return nil, err
		}
		go (*g).Run(ctx)
	}
	return f, nil
}

func (f *fleet) steps() []step {
	return []step{
		{"Two gateways share keys and a guard. The user connects to the first:", func() (err error) {
			fresh, err := f.sealer.Create(f.claims)
			if err != nil {
				return err
			}
			f.token = fresh
			f.user, err = enter(f.first, fresh.Token)
			return err
		}, nil},
		{"Somebody connects to the second with the same token:", func() error {
			_, err := enter(f.second, f.token.Token)
			return err
		}, token.ErrSpent},
		{"A moderator disconnects the user. The connection may do nothing more:", func() error {
			unused, err := f.sealer.Create(f.claims)
			if err != nil {
				return err
			}
			f.unused = unused.Token
			if err := f.first.Revoke(context.Background(), token.Target{User: f.claims.UserID}, ""); err != nil {
				return err
			}
			if f.user == nil {
				return errors.New("nobody is connected")
			}
			defer f.user.Leave()
			return f.user.Authorize(claims.SendMessage)
		}, token.ErrRevoked},
		{"The user comes back, to the second, with a token from before that:", func() error {
			_, err := enter(f.second, f.unused)
			return err
		}, token.ErrRevoked},
		{"The first gateway is about to stop. Somebody else connects to it:", func() error {
			if err := f.first.Drain(context.Background(), 0, 0); err != nil {
				return err
			}
			_, err := enter(f.first, f.unused)
			return err
		}, gateway.ErrDraining},
	}
}

// enter connects with a token, as a client of server-sent events does. It tries
// again while the gateway is starting.
func enter(g *gateway.Gateway, text string) (*gateway.Participant, error) {
	for tries := 0; ; tries++ {
		r := &http.Request{Method: http.MethodGet, Header: http.Header{"Authorization": {"Bearer " + text}}}
		p, err := g.EnterStream(reply{}, r)
		refusal, ok := errors.AsType[*gateway.Refusal](err)
		if !ok || refusal.Reason != "not-running" || tries == 1000 {
			return p, err
		}
		time.Sleep(time.Millisecond)
	}
}

// reply is a ResponseWriter whose response nobody reads.
type reply struct{ http.ResponseWriter }

func (reply) Header() http.Header            { return http.Header{} }
func (reply) Write(data []byte) (int, error) { return len(data), nil }
func (reply) WriteHeader(int)                {}
func (reply) Flush()                         {}
