//go:build unix

package main

import (
	"context"
	"io"
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
)

// Two hosts share keys and a guard. While the guard is down, newcomers must
// wait, and those who are in go on.
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

// User, password, database, prefix and TLS reach the guard. Later connections
// use the file's password of that time.
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

// order sends the server commands, and returns the answers.
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
