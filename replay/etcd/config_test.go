//go:build unix

package etcd_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/token"
)

func TestConfig(t *testing.T) {
	good := etcd.Config{Endpoints: []string{"127.0.0.1:1"}}
	for name, spoil := range map[string]func(c *etcd.Config){
		"no endpoint":   func(c *etcd.Config) { c.Endpoints = nil },
		"long prefix":   func(c *etcd.Config) { c.Prefix = string(make([]byte, 65)) },
		"skew":          func(c *etcd.Config) { c.Limits = keyring.Limits{ClockSkew: 61 * time.Second} },
		"broken skew":   func(c *etcd.Config) { c.Limits = keyring.Limits{ClockSkew: 1500 * time.Millisecond} },
		"short timeout": func(c *etcd.Config) { c.Timeout = time.Millisecond },
		"long timeout":  func(c *etcd.Config) { c.Timeout = 7 * time.Second },
		"waiting":       func(c *etcd.Config) { c.MaxWaiting = -1 },
		"revocations":   func(c *etcd.Config) { c.MaxRevocations = 1<<20 + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			c := good
			spoil(&c)
			_, err := etcd.New(ctx, c)
			require.Error(t, err)
			assert.NotErrorIs(t, err, token.ErrUnavailable)
		})
	}
	good.Timeout = 50 * time.Millisecond
	_, err := etcd.New(ctx, good)
	assert.ErrorIs(t, err, etcd.ErrUnreachable)
}

func TestZero(t *testing.T) {
	for _, g := range []*etcd.Guard{nil, {}} {
		s := honest(time.Minute)
		fresh, err := g.Spend(ctx, time.Now(), s)
		assert.False(t, fresh)
		assert.Equal(t, etcd.ErrClosed, err)
		assert.Equal(t, etcd.ErrClosed, g.Revoked(s))
		assert.Equal(t, etcd.ErrClosed, g.Revoke(ctx, token.Target{Everyone: true}, time.Now()))
		assert.Equal(t, etcd.ErrClosed, g.Sync(ctx, nil))
		assert.Equal(t, 9999, g.ReadyAt().Year())
		assert.Zero(t, g.Synced())
		assert.Zero(t, g.Stats())
		g.Close()
	}
}

// TestNoPassword prints whatever has a password, in every way.
func TestNoPassword(t *testing.T) {
	t.Parallel()
	const password = "hunter2"
	cluster := etcdtest.Start(t, 1)
	c := etcd.Config{Endpoints: cluster.Endpoints(), Username: "gateway", Password: password}
	g := newGuard(t, c)
	var none *etcd.Guard
	shown := map[string][]any{c.Endpoints[0]: {c, &c, g, []any{c, g}}, "etcd": {none, new(etcd.Guard), etcd.Config{}}}
	for want, values := range shown {
		for _, v := range values {
			for _, verb := range strings.Fields("%v %+v %#v %s %q %x %X %d %t") {
				text := fmt.Sprintf(verb, v)
				assert.Contains(t, text, want, verb)
				assert.NotContains(t, text, password, verb)
				assert.NotContains(t, text, fmt.Sprintf("%x", password), verb)
			}
		}
	}
	var log bytes.Buffer
	for _, h := range []slog.Handler{slog.NewJSONHandler(&log, nil), slog.NewTextHandler(&log, nil)} {
		slog.New(h).Info("made", "config", c, "guard", g, "none", none)
	}
	assert.NotContains(t, log.String(), password)
	assert.Equal(t, 4, strings.Count(log.String(), c.Endpoints[0]))
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	g := newGuard(t, etcd.Config{Endpoints: c.Endpoints(), MaxWaiting: 1, Timeout: 2 * time.Second})
	assert.ErrorIs(t, errOf(g.Spend(ctx, time.Now(), issued(time.Now().Add(10*time.Second), time.Minute))), etcd.ErrClock)
	waitReady(t, g)
	assert.ErrorIs(t, errOf(g.Spend(ctx, time.Now(), issued(time.Now(), time.Hour))), etcd.ErrClock)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	_, err := g.Spend(canceled, time.Now(), issued(time.Now(), time.Minute))
	assert.ErrorIs(t, err, etcd.ErrCanceled)
	assert.ErrorIs(t, err, context.Canceled)

	c.Members[0].Stop()
	done := make(chan string)
	go func() { done <- spend(g, issued(time.Now(), time.Minute)) }()
	eventually(t, func() bool { return g.Stats().Waiting == 1 })
	assert.Equal(t, etcd.ErrBusy.Error(), spend(g, issued(time.Now(), time.Minute)))
	assert.Contains(t, <-done, "etcd: ")
	eventually(t, func() bool { return g.Stats().Waiting == 0 })
	go func() { done <- spend(g, issued(time.Now(), time.Minute)) }()
	eventually(t, func() bool { return g.Stats().Waiting == 1 })
	g.Close()
	assert.Equal(t, etcd.ErrClosed.Error(), <-done)
	assert.Equal(t, etcd.ErrClosed.Error(), spend(g, issued(time.Now(), time.Minute)))
	assert.Equal(t, etcd.ErrClosed, g.Revoke(ctx, token.Target{Everyone: true}, time.Now()))
	g.Close()
	c.Members[0].Resume()
}

func TestPermissions(t *testing.T) {
	t.Parallel()
	c := etcdtest.Start(t, 1)
	client := dial(t, c)
	do := func(_ any, err error) {
		t.Helper()
		require.NoError(t, err)
	}
	end := clientv3.GetPrefixRangeEnd("chat/")
	for user, kind := range map[string]clientv3.PermissionType{
		"gateway": clientv3.PermissionType(clientv3.PermReadWrite), "reader": clientv3.PermissionType(clientv3.PermRead),
	} {
		do(client.RoleAdd(ctx, user))
		do(client.RoleGrantPermission(ctx, user, "chat/", end, kind))
		do(client.UserAdd(ctx, user, "secret"))
		do(client.UserGrantRole(ctx, user, user))
	}
	do(client.RoleAdd(ctx, "root"))
	do(client.UserAdd(ctx, "root", "root"))
	do(client.UserGrantRole(ctx, "root", "root"))
	do(client.AuthEnable(ctx))

	config := etcd.Config{Endpoints: c.Endpoints(), Prefix: "chat/", Username: "gateway", Password: "secret"}
	g := newGuard(t, config)
	for name, spoil := range map[string]func(c *etcd.Config){
		"nobody":         func(c *etcd.Config) { c.Username, c.Password = "", "" },
		"wrong password": func(c *etcd.Config) { c.Password = "wrong" },
		"reads only":     func(c *etcd.Config) { c.Username = "reader" },
		"other prefix":   func(c *etcd.Config) { c.Prefix = "chess/" },
		"credentials": func(c *etcd.Config) {
			c.Credentials = func() (string, string, error) { return "", "", errors.New("no") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			bad := config
			spoil(&bad)
			_, err := etcd.New(ctx, bad)
			assert.ErrorIs(t, err, etcd.ErrAuth)
		})
	}
	config.Username, config.Password = "", ""
	config.Credentials = func() (string, string, error) { return "gateway", "secret", nil }
	other := newGuard(t, config)
	waitReady(t, g, other)
	s := issued(time.Now(), time.Minute)
	assert.Equal(t, "fresh", spend(g, s))
	assert.Equal(t, "spent", spend(other, s))
	require.NoError(t, other.Revoke(ctx, token.Target{Room: "room"}, time.Now()))
	assert.Equal(t, token.ErrRevoked.Error(), spend(g, issued(time.Now(), time.Minute)))

	// The member forgets whom it has authenticated.
	c.Kill()
	c.Launch()
	s = issued(time.Now().Add(4*time.Second), time.Minute)
	s.RoomIdentifier = nil
	assert.Equal(t, "fresh", spend(g, s))
	assert.Equal(t, "spent", spend(other, s))
}

func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "etcd"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	require.NoError(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	write := func(name, kind string, data []byte) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: data}), 0o600))
		return path
	}
	cert, keyFile := write("cert", "CERTIFICATE", der), write("key", "PRIVATE KEY", private)
	c := etcdtest.New(t, 1, "--cert-file", cert, "--key-file", keyFile, "--client-cert-auth", "--trusted-ca-file", cert)
	c.Members[0].Scheme = "https"
	c.Launch()
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	config := etcd.Config{Endpoints: c.Endpoints(), Timeout: time.Second}
	_, err = etcd.New(ctx, config)
	assert.ErrorIs(t, err, etcd.ErrUnreachable)
	config.TLS = &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	g := newGuard(t, config)
	waitReady(t, g)
	assert.Equal(t, "fresh", spend(g, issued(time.Now(), time.Minute)))
}
