package valkey_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

// TestDial: the caller makes the connections.
func TestDial(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	var dialed atomic.Int64
	c := config("the.server:1")
	c.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		assert.Equal(t, "the.server:1", address)
		dialed.Add(1)
		return new(net.Dialer).DialContext(ctx, network, s.Address)
	}
	assert.Equal(t, "fresh", spend(newGuard(t, c), unique()))
	assert.Positive(t, dialed.Load())
}

// TestMute: a connection goes silent, and the caller's connections cannot be
// asked whether they live. The guard makes a new one.
func TestMute(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	p := startProxy(t, s.Address)
	c := config(p.address)
	c.Timeout = 500 * time.Millisecond
	c.Dialer = (&net.Dialer{KeepAlive: -1}).DialContext
	g := newGuardAtLast(t, c)
	many := func() {
		var wg sync.WaitGroup
		for range 64 { // make the client read in the background
			wg.Go(func() { spend(g, unique()) })
		}
		wg.Wait()
	}
	many()
	p.mute.Store(true)
	many()
	p.mute.Store(false)
	eventually(t, func() bool { return spend(g, unique()) == "fresh" })
}

// watched is a connection that tells when it is closed.
type watched struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (w *watched) Close() error {
	w.once.Do(func() { close(w.closed) })
	return w.Conn.Close()
}

// TestCloseWhileConnecting closes a guard while it makes a connection, which
// does not stay.
func TestCloseWhileConnecting(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	c := config(f.address)
	var hold atomic.Bool
	dialing, proceed, made := make(chan struct{}, 100), make(chan struct{}), make(chan *watched, 100)
	c.Dialer = func(ctx context.Context, network, address string) (net.Conn, error) {
		held := hold.Load()
		if held {
			dialing <- struct{}{}
			<-proceed
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil || !held {
			return conn, err
		}
		w := &watched{Conn: conn, closed: make(chan struct{})}
		made <- w
		return w, nil
	}
	g := newGuard(t, c)
	hold.Store(true)
	f.hangUp()
	outcome := make(chan string, 1)
	go func() { outcome <- spend(g, unique()) }()
	<-dialing
	g.Close()
	assert.Equal(t, valkey.ErrClosed.Error(), <-outcome)
	close(proceed)
	select {
	case <-(<-made).closed:
	case <-time.After(hang):
		assert.Fail(t, "the connection stays")
	}
}

// TestDatabase uses two deployments on one server, and a missing database.
func TestDatabase(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := config(s.Address)
	first := newGuard(t, c)
	c.Database = 1
	second := newGuard(t, c)
	tok := unique()
	assert.Equal(t, "fresh", spend(first, tok))
	assert.Equal(t, "fresh", spend(second, tok))
	assert.Equal(t, "spent", spend(second, tok))
	c.Database = -1
	_, err := valkey.New(ctx, c)
	assert.ErrorIs(t, err, valkey.ErrServer)
}

// TestClosed: a closed guard refuses everything at once, and makes no
// connection.
func TestClosed(t *testing.T) {
	t.Parallel()
	f := startFake(t)
	g := newGuard(t, config(f.address))
	require.Equal(t, "fresh", spend(g, unique()))
	connections := g.Stats().Connections
	g.Close()
	for range 3 {
		assert.ErrorIs(t, g.Sync(ctx, noNews), valkey.ErrClosed)
		assert.ErrorIs(t, g.Revoke(ctx, token.Target{User: "other"}, time.Now()), valkey.ErrClosed)
		assert.Equal(t, valkey.ErrClosed.Error(), spend(g, unique()))
	}
	assert.Equal(t, connections, g.Stats().Connections)
}

// TestCanceledWhileStalled cancels calls while the server stands still. They do
// not wait until their time is up.
func TestCanceledWhileStalled(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	c := config(s.Address)
	g := newGuard(t, c)
	s.Stop()
	defer s.Resume()
	for name, call := range map[string]func(ctx context.Context) error{
		"New":    func(ctx context.Context) error { _, err := valkey.New(ctx, c); return err },
		"Sync":   func(ctx context.Context) error { return g.Sync(ctx, noNews) },
		"revoke": func(ctx context.Context) error { return g.Revoke(ctx, token.Target{User: "user"}, time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			leaving, leave := context.WithCancel(ctx)
			time.AfterFunc(100*time.Millisecond, leave)
			began := time.Now()
			assert.ErrorIs(t, call(leaving), valkey.ErrCanceled)
			assert.Less(t, time.Since(began), c.Timeout/2)
		})
	}
}

// TestTLS uses a server that speaks only TLS.
func TestTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	s := startServer(t, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	var address string
	eventually(t, func() bool { // another may have taken the port
		address = valkeytest.FreeAddress(t)
		_, port, _ := net.SplitHostPort(address)
		return s.do("CONFIG", "SET", "tls-port", port).Error() == nil
	})
	c := config(address)
	c.TLS = &tls.Config{RootCAs: pool}
	g := newGuard(t, c)
	tok := unique()
	assert.Equal(t, "fresh", spend(g, tok))
	assert.Equal(t, "spent", spend(g, tok))
	c.TLS = &tls.Config{}
	_, err := valkey.New(ctx, c)
	assert.ErrorIs(t, err, valkey.ErrUnreachable)
	assert.ErrorContains(t, err, noConnection+": tls: failed to verify certificate: x509: certificate signed by unknown authority")
}

// TestMuteTLS: the handshake of a new connection meets silence, and the next
// connection a server that answers. Nobody waits for the first one for ever.
func TestMuteTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	pair, err := tls.LoadX509KeyPair(cert, key)
	require.NoError(t, err)
	f := startFake(t)
	var mute atomic.Bool
	address := listen(t, func(c net.Conn) {
		if !mute.Load() {
			f.serve(tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}}))
		}
	})
	c := config(address)
	c.Timeout = time.Second
	c.TLS = &tls.Config{RootCAs: pool}
	g := newGuardAtLast(t, c)
	mute.Store(true)
	f.hangUp()
	assert.Contains(t, []string{timedOut, noConnection}, spend(g, unique()))
	mute.Store(false)
	eventually(t, func() bool { return spend(g, unique()) == "fresh" })
}

// certificate returns the files of a certificate for 127.0.0.1, and a pool that
// trusts it.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), 0o600))
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return cert, key, pool
}
