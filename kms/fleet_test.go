package kms_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/gateway"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/kms/internal/localkms"
	"github.com/seed17cb2b26/chattoken/replay"
	"github.com/seed17cb2b26/chattoken/token"
	"github.com/seed17cb2b26/chattoken/token/tokentest"
)

// fleet is a rotator, an issuer, two gateways, and clients that come and go.
// All follow one file and one clock, which only the test moves.
type fleet struct {
	file     keyring.File // as every host has it
	ring     *keyring.Ring
	hosts    []*keyring.Follower // the issuer's, then those of the gateways
	gateways []*gateway.Gateway

	mu      sync.RWMutex // held with a token, and to set the clock
	now     atomic.Int64 // the clock, in Unix seconds
	revoked atomic.Value // keyring.ID: tokens under it may be refused

	entered [2]atomic.Int64 // through each gateway
	excused atomic.Int64
}

func (f *fleet) clock() time.Time { return time.Unix(f.now.Load(), 0) }

// pass lets time pass between one client's token and the next.
func (f *fleet) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.now.Add(int64(d / time.Second))
}

func newFleet(t *testing.T, kek keyring.KEK) *fleet {
	f := &fleet{file: keyring.File{
		Name: filepath.Join(t.TempDir(), "ring"), KEK: kek,
		Config: keyring.Config{Policy: keyring.Policy{Period: time.Hour, Lead: 5 * time.Minute}},
	}}
	f.now.Store(1647405789)
	f.revoked.Store(keyring.ID{})
	var err error
	f.ring, err = f.file.Create(t.Context(), f.clock())
	require.NoError(t, err)
	follow := func() *keyring.Follower {
		host, err := f.file.Follow(t.Context(), f.clock())
		require.NoError(t, err)
		f.hosts = append(f.hosts, host)
		return host
	}
	follow()
	for range f.entered {
		keys := follow()
		guard, err := replay.New(replay.Config{Limits: keys.Ring().Limits(), Now: f.clock})
		require.NoError(t, err)
		g, err := gateway.New(gateway.Config{Keys: keys, Guard: guard, Now: f.clock})
		require.NoError(t, err)
		f.gateways = append(f.gateways, g)
	}
	f.pass(10 * time.Second) // the guards are ready
	return f
}

// run starts gateways and clients until the test ends. If a token is refused
// without excuse, the test fails.
func (f *fleet) run(t *testing.T) {
	ctx, stop := context.WithCancel(context.Background())
	var gateways, clients sync.WaitGroup
	for _, g := range f.gateways {
		gateways.Go(func() { g.Run(ctx) })
		for g.Ready(f.clock()) != nil {
			time.Sleep(time.Millisecond)
		}
	}
	for i := range 4 {
		clients.Go(func() {
			for t.Context().Err() == nil {
				f.visit(t, i%len(f.gateways), fmt.Sprint("user ", i))
				time.Sleep(time.Millisecond)
			}
		})
	}
	t.Cleanup(func() { // the test's context has ended
		clients.Wait()
		stop()
		gateways.Wait()
	})
}

// visit mints a token, and enters with it.
func (f *fleet) visit(t *testing.T, i int, user string) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	sealer := token.Sealer{Ring: f.hosts[0].Ring(), Now: f.clock}
	c := tokentest.Claims()
	c.UserID = user
	minted, err := sealer.Create(c)
	if !assert.NoError(t, err) {
		return
	}
	p, err := f.gateways[i].Enter(writer{httptest.NewRecorder()}, handshake(minted.Token))
	switch {
	case err == nil:
		assert.NoError(t, p.Authorize(claims.SendMessage))
		p.Leave()
		f.entered[i].Add(1)
	case errors.Is(err, token.ErrRevokedKey) && keyOf(minted.Token) == f.revoked.Load():
		f.excused.Add(1)
	default:
		assert.NoError(t, errors.Unwrap(err))
	}
}

// works waits until more clients have entered at each gateway.
func (f *fleet) works(t *testing.T) {
	t.Helper()
	for i := range f.entered {
		want := f.entered[i].Load() + 10
		for f.entered[i].Load() < want && !t.Failed() {
			time.Sleep(time.Millisecond)
		}
	}
	require.False(t, t.Failed())
}

// change changes the ring and saves it.
func (f *fleet) change(t *testing.T, change func() error) {
	t.Helper()
	require.NoError(t, change())
	require.NoError(t, f.file.Save(t.Context(), f.ring))
}

// refresh refreshes all hosts, one after the other, under load.
func (f *fleet) refresh(t *testing.T, want func(error)) {
	t.Helper()
	for _, host := range f.hosts {
		_, err := host.Refresh(t.Context(), f.clock())
		want(err)
		f.works(t)
	}
}

// rotate lets the next key seal, and publishes another one.
func (f *fleet) rotate(t *testing.T) {
	t.Helper()
	f.pass(time.Hour - time.Minute)
	f.works(t)
	f.pass(2 * time.Minute)
	f.works(t)
	f.change(t, func() error { _, err := f.ring.Rotate(f.clock()); return err })
	f.refresh(t, func(err error) { require.NoError(t, err) })
}

// rewrap seals the ring under another KEK.
func (f *fleet) rewrap(t *testing.T, kek, old keyring.KEK) {
	t.Helper()
	file := f.file
	file.KEK = keyring.KEKs{kek, old}
	require.NoError(t, file.Save(t.Context(), f.ring))
	f.refresh(t, func(err error) { require.NoError(t, err) })
	file.KEK = kek
	_, err := file.Load(t.Context())
	require.NoError(t, err)
	file.KEK = old
	_, err = file.Load(t.Context())
	require.ErrorContains(t, err, "sealed under the KEK")
	f.file.KEK = keyring.KEKs{kek, old} // the rotator's
}

// A fleet under load moves from a KEK in a file to one in a service and back.
// In between its keys rotate, one is revoked, somebody with access to the
// service forges a ring, and the service is away for a while.
func TestFleet(t *testing.T) {
	s := localkms.Start(t)
	service, other := open(t, s.NewKey(t)), open(t, s.NewKey(t))
	name := filepath.Join(t.TempDir(), "kek")
	local, err := keyring.GenerateKEK()
	require.NoError(t, err)
	require.NoError(t, local.WriteFile(name))
	file := keyring.KEKFile{Name: name}

	f := newFleet(t, keyring.KEKs{file, service})
	f.run(t)
	f.works(t)
	f.rotate(t)

	t.Log("from the file to the service")
	f.rewrap(t, service, file)
	f.rotate(t)

	t.Log("a forged ring")
	genuine, err := os.ReadFile(f.file.Name)
	require.NoError(t, err)
	ring, err := keyring.New(f.clock(), keyring.Config{MinSerial: f.ring.Serial() + 1})
	require.NoError(t, err)
	forged, err := ring.Marshal(t.Context(), keyring.AEADKEK{ID: service.ID, AEAD: other.AEAD})
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(f.file.Name, forged, 0o600))
	f.refresh(t, func(err error) { require.ErrorContains(t, err, "unwrapping the data key") })
	require.NoError(t, os.WriteFile(f.file.Name, genuine, 0o600))
	f.refresh(t, func(err error) { require.NoError(t, err) })

	t.Log("a revoked key")
	for k := range f.ring.Keys(f.clock()) {
		if k.State == keyring.Primary {
			f.revoked.Store(k.ID)
			f.change(t, func() error { return f.ring.Revoke(f.clock(), k.ID) })
			break
		}
	}
	f.refresh(t, func(err error) { require.NoError(t, err) })
	f.rotate(t)

	t.Log("the service is away for a minute, just after the next key was published")
	f.pass(time.Hour)
	f.refresh(t, func(err error) { require.NoError(t, err) })
	f.change(t, func() error { _, err := f.ring.Rotate(f.clock()); return err })
	s.Misbehave(localkms.Gone)
	for range 6 {
		f.refresh(t, func(err error) { require.ErrorContains(t, err, "unwrapping the data key") })
		f.pass(10 * time.Second)
	}
	require.Error(t, f.file.Save(t.Context(), f.ring), "nor can the rotator save")
	for _, host := range f.hosts {
		require.NoError(t, host.Health(f.clock()), "a minute is no cause for alarm")
	}
	s.Misbehave(nil)
	f.refresh(t, func(err error) { require.NoError(t, err) })
	f.pass(10 * time.Minute)
	f.works(t)
	for _, host := range f.hosts {
		require.Equal(t, f.ring.Serial(), host.Ring().Serial())
	}

	t.Log("back to the file, and no service any more")
	f.rewrap(t, file, service)
	s.Misbehave(localkms.Gone)
	f.rotate(t)
	t.Logf("%d and %d entered, none was refused but %d under the revoked key",
		f.entered[0].Load(), f.entered[1].Load(), f.excused.Load())
}

func keyOf(text string) (id keyring.ID) {
	data, _ := base64.RawURLEncoding.DecodeString(text[len(token.Prefix):])
	copy(id[:], data)
	return id
}

// writer claims to be hijackable. A gateway checks nothing else.
type writer struct{ *httptest.ResponseRecorder }

func (writer) Hijack() (net.Conn, *bufio.ReadWriter, error) { return nil, nil, errors.New("a test") }

func handshake(text string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "http://chat.example.com/chat", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	r.Header.Set("Sec-WebSocket-Protocol", text)
	return r
}
