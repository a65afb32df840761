package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/replay/etcd"
	"github.com/seed17cb2b26/chattoken/replay/etcd/etcdtest"
	"github.com/seed17cb2b26/chattoken/replay/valkey"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

func TestParseGuard(t *testing.T) {
	for text, want := range map[string]guardURL{
		"memory":                        {engine: "memory"},
		"valkey://db":                   {engine: "valkey", addresses: []string{"db"}},
		"valkey://db:6379/3":            {engine: "valkey", addresses: []string{"db:6379"}, database: 3},
		"valkeys://chat@a:1,[::1]:2/":   {engine: "valkey", tls: true, user: "chat", addresses: []string{"a:1", "[::1]:2"}},
		"etcd://us%40er@a:1,b:2":        {engine: "etcd", user: "us@er", addresses: []string{"a:1", "b:2"}},
		"etcds://a:1?ca=x&cert=y&key=z": {engine: "etcd", tls: true, addresses: []string{"a:1"}, ca: "x", cert: "y", key: "z"},
		"valkey://a:1?prefix=p%2F&timeout=1s&max-waiting=2&max-revocations=3&accept-eviction=true&accept-no-append-only-file=1": {
			engine: "valkey", addresses: []string{"a:1"}, prefix: "p/", timeout: time.Second, maxWaiting: 2, maxRevocations: 3,
			acceptEviction: true, acceptNoAppendOnlyFile: true},
	} {
		got, err := parseGuard(text)
		assert.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{
		"", "redis://db:6379", "valkey", "valkey:db", "valkeyss://db", "memory://", "memory?prefix=x",
		"valkey://", "valkey:///3", "valkey://a:1,", "valkey://u@", "valkey://u%zz@a:1",
		"valkey://a:1/x", "valkey://a:1/3/4", "etcd://a:1/3",
		"valkey://a:1?prefix=%zz", "valkey://a:1?nothing=1", "valkey://a:1?prefix=a&prefix=b", "valkey://a:1?timeout=soon",
		"valkey://a:1?ca=x", "valkeys://a:1?cert=x", "valkeys://a:1?key=x", "etcd://a:1?accept-eviction=true",
	} {
		_, err := parseGuard(text)
		assert.Error(t, err, text)
	}
	_, err := parseGuard("valkey://chat:hunter2@db")
	require.ErrorContains(t, err, envGuardPassword)
	assert.NotContains(t, err.Error(), "hunter2")
}

// hang is when a test has waited too long. It is no measure of speed.
const hang = time.Minute

func healthy(url string) bool {
	resp, err := http.Get(url + "/healthz")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// join gets a token from the page's server, or "".
func join(t *testing.T, url, room, user string) string {
	t.Helper()
	resp, err := http.Post(url+"/join", "application/json",
		strings.NewReader(`{"room":"`+room+`","userId":"`+user+`","moderator":true}`))
	require.NoError(t, err)
	defer resp.Body.Close()
	var reply struct{ Token string }
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&reply))
	return reply.Token
}

// connect presents a token, and returns the status of the reply.
func connect(t *testing.T, url, token string) (*websocket.Conn, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	conn, resp, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1)+"/", &websocket.DialOptions{Subprotocols: []string{token}})
	require.NotNil(t, resp, err)
	if conn != nil {
		t.Cleanup(func() { conn.CloseNow() })
	}
	return conn, resp.StatusCode
}

func say(t *testing.T, conn *websocket.Conn, message string) {
	t.Helper()
	require.NoError(t, conn.Write(t.Context(), websocket.MessageText, []byte(message)))
}

func hear(t *testing.T, conn *websocket.Conn) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	_, data, err := conn.Read(ctx)
	require.NoError(t, err)
	return string(data)
}

// Two hosts share keys and what was spent. While nobody can tell what was,
// users have to wait, and those who are in go on.
func TestValkey(t *testing.T) {
	t.Parallel()
	server := valkeytest.Start(t)
	testFleet(t, server.Kill, "-guard", "valkey://"+server.Address)
}

func TestEtcd(t *testing.T) {
	t.Parallel()
	cluster := etcdtest.Start(t, 1, "--auto-compaction-retention", "1h")
	testFleet(t, cluster.Kill, "-guard", "etcd://"+strings.Join(cluster.Endpoints(), ",")+"?timeout=1s")
}

func testFleet(t *testing.T, kill func(), args ...string) {
	ring, kek := sealedRing(t, soon)
	args = append(args, "-keyring", ring, "-kek-file", kek)
	here, there := quiet(t, args...).url, quiet(t, args...).url
	require.Eventually(t, func() bool { return healthy(here) && healthy(there) }, hang, 100*time.Millisecond)

	text := join(t, here, demoRoom, "ann")
	ann, status := connect(t, there, text)
	require.Equal(t, http.StatusSwitchingProtocols, status)
	_, status = connect(t, here, text)
	assert.Equal(t, http.StatusUnauthorized, status, "spent on the other host")

	// A moderator on one host, the user on the other.
	mod, status := connect(t, here, join(t, here, demoRoom, "mod"))
	require.Equal(t, http.StatusSwitchingProtocols, status)
	unused := join(t, here, demoRoom, "ann")
	say(t, mod, `{"Action":"DISCONNECT_USER","RequestId":"r","UserId":"ann"}`)
	assert.Contains(t, hear(t, mod), `"RequestId":"r"`)
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	_, _, err := ann.Read(ctx)
	assert.EqualValues(t, 1008, websocket.CloseStatus(err), err)
	_, status = connect(t, there, unused)
	assert.Equal(t, http.StatusUnauthorized, status)

	kill()
	_, status = connect(t, here, join(t, here, demoRoom, "bob"))
	assert.Equal(t, http.StatusServiceUnavailable, status)
	say(t, mod, `{"Action":"SEND_MESSAGE","Content":"still here"}`)
	assert.Contains(t, hear(t, mod), "still here")
	say(t, mod, `{"Action":"DISCONNECT_USER","RequestId":"r2","UserId":"bob"}`)
	assert.Contains(t, hear(t, mod), `"ErrorCode":500`)
}

// A server that can't be asked is noticed at the start.
func TestGuardIsNotThere(t *testing.T) {
	t.Parallel()
	ring, kek := sealedRing(t, soon)
	for _, guard := range []string{"valkey://127.0.0.1:1", "etcd://127.0.0.1:1?timeout=1s"} {
		assert.ErrorIs(t, fails("-keyring", ring, "-kek-file", kek, "-guard", guard), token.ErrUnavailable, guard)
	}
}

// User, password, database, prefix and TLS get there. Connections that are made
// later have the password that is in the file then.
func TestValkeyOptions(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	secure := valkeytest.FreeAddress(t)
	_, port, _ := strings.Cut(secure, ":")
	server := valkeytest.Start(t, "--user", "chat", "on", ">first", "~*", "&*", "+@all",
		"--tls-port", port, "--tls-cert-file", cert, "--tls-key-file", key, "--tls-auth-clients", "no")
	ring, kek := sealedRing(t, soon)
	password := writeFile(t, "first\n")
	args := []string{"-keyring", ring, "-kek-file", kek, "-guard-password-file", password,
		"-guard", "valkeys://chat@" + secure + "/3?prefix=chat:&ca=" + cert}
	url := quiet(t, args...).url
	require.Eventually(t, func() bool { return healthy(url) }, hang, 100*time.Millisecond)
	assert.Contains(t, order(t, server.Address, "SELECT 3", "KEYS *"), "chat:{")

	require.NoError(t, os.WriteFile(password, []byte("second"), 0o600))
	order(t, server.Address, "ACL SETUSER chat resetpass >second", "CLIENT KILL USER chat")
	require.Eventually(t, func() bool {
		_, code := connect(t, url, join(t, url, demoRoom, "ann"))
		return code == http.StatusSwitchingProtocols
	}, hang, 100*time.Millisecond)

	require.NoError(t, os.WriteFile(password, []byte("first"), 0o600))
	assert.ErrorIs(t, fails(args...), valkey.ErrAuth)
	c := start(t, map[string]string{envGuardPassword: "second"}, slices.Concat(args[:4], args[6:])...)
	go io.Copy(io.Discard, c.lines)
}

// order gives the server commands, and returns what it answers.
func order(t *testing.T, address string, commands ...string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, strings.Join(append(commands, "QUIT"), "\r\n")+"\r\n")
	require.NoError(t, err)
	answer, err := io.ReadAll(conn)
	require.NoError(t, err)
	require.NotContains(t, string(answer), "-ERR")
	return string(answer)
}

// The server wants a certificate of its clients, too.
func TestEtcdOptions(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	cluster := etcdtest.New(t, 1, "--cert-file", cert, "--key-file", key, "--client-cert-auth", "--trusted-ca-file", cert)
	cluster.Members[0].Scheme = "https"
	cluster.Launch()
	ring, kek := sealedRing(t, soon)
	args := []string{"-keyring", ring, "-kek-file", kek, "-guard"}
	guard := "etcds://" + cluster.Members[0].Endpoint + "?timeout=1s&ca=" + cert
	assert.ErrorIs(t, fails(append(args, guard)...), etcd.ErrUnreachable)
	url := quiet(t, append(args, guard+"&cert="+cert+"&key="+key)...).url
	require.Eventually(t, func() bool { return healthy(url) }, hang, 100*time.Millisecond)

	for _, bad := range []string{"&cert=" + cert + "&key=" + cert, "&cert=/none&key=" + key} {
		assert.Error(t, fails(append(args, guard+bad)...), bad)
	}
	for _, ca := range []string{"/none", key} {
		assert.Error(t, fails(append(args, "etcds://127.0.0.1:1?ca="+ca)...), ca)
	}
}

// certificate returns the names of a certificate for loopback, which is its own
// authority, and of its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "loopback"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	return writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		writeFile(t, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded})))
}
