//go:build unix

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/ivschat"
	"github.com/aws/aws-sdk-go-v2/service/ivschat/types"
	"github.com/aws/smithy-go"
	"github.com/coder/websocket"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/replay/valkey/valkeytest"
	"github.com/seed17cb2b26/chattoken/token"
)

// The configurations of PROXIES.md, as they are, and without each line that the
// page explains.
func TestNginx(t *testing.T) {
	outer, inner := nginxConfigs(t)
	const member, header = "server 127.0.0.1:8080;", "proxy_set_header X-Forwarded-Proto $scheme;"
	one := replaced(t, outer, member, "server SERVER;")
	two := replaced(t, outer, member, "server INNER;") + inner
	badHost := findings{create: "InvalidSignatureException", page: http.StatusForbidden, elsewhere: http.StatusForbidden,
		client: http.StatusSwitchingProtocols, again: http.StatusUnauthorized}
	for name, test := range map[string]struct {
		config string
		want   findings
	}{
		"as it stands": {one, good},
		"two in a row": {two, good},
		"Host":         {replaced(t, one, "proxy_set_header Host $http_host;", ""), badHost},
		"port":         {replaced(t, one, "$http_host", "$host"), badHost},
		"scheme": {replaced(t, one, header, ""), findings{page: http.StatusForbidden, elsewhere: http.StatusForbidden,
			client: http.StatusSwitchingProtocols, again: http.StatusUnauthorized}},
		"upgrade": {replaced(t, one, "proxy_set_header Upgrade $http_upgrade;", "", "proxy_set_header Connection $connection_upgrade;", ""),
			findings{page: http.StatusBadRequest, elsewhere: http.StatusBadRequest,
				client: http.StatusBadRequest, again: http.StatusSwitchingProtocols}},
		"buffer": {replaced(t, two, "proxy_buffer_size 8k;", ""), findings{page: http.StatusBadGateway, elsewhere: http.StatusForbidden,
			client: http.StatusBadGateway, again: http.StatusUnauthorized}},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			h.nginx(t, test.config)
			assert.Equal(t, test.want, h.find(t))
		})
	}
}

// Clients refused by a draining host get in at the next one.
func TestNginxWhileDraining(t *testing.T) {
	t.Parallel()
	outer, _ := nginxConfigs(t)
	ring, kek := sealedRing(t, soon)
	args := []string{"-keyring", ring, "-kek-file", kek, "-drain-notice", "1h"}
	here, there := quiet(t, args...), quiet(t, args...)
	require.Eventually(t, func() bool { return healthy(here.url) && healthy(there.url) }, hang, 100*time.Millisecond)
	here.signals <- syscall.SIGTERM
	require.Eventually(t, func() bool { return !healthy(here.url) }, hang, time.Millisecond)

	outer = replaced(t, outer, "server 127.0.0.1:8080;",
		"server "+strings.TrimPrefix(here.url, "http://")+"; server "+strings.TrimPrefix(there.url, "http://")+";")
	refused := func(config string) (n int) {
		h := newHouse(t)
		h.nginx(t, config)
		for range 6 {
			if h.dial(t, "https://"+h.outer, "", join(t, there.url, demoRoom, "ann")) != http.StatusSwitchingProtocols {
				n++
			}
		}
		return n
	}
	assert.Zero(t, refused(outer))
	assert.Equal(t, 3, refused(replaced(t, outer, "proxy_next_upstream error timeout http_503;", "")))
}

// nginxConfigs returns the page's configuration, and that of a second nginx
// that stands behind it and adds a header of its own.
func nginxConfigs(t *testing.T) (outer, inner string) {
	t.Helper()
	parts := snippets(t, "nginx")
	require.Len(t, parts, 2)
	outer = replaced(t, parts[0], "listen 443 ssl", "listen OUTER ssl")
	_, inner, _ = strings.Cut(parts[0], "server {")
	return outer, replaced(t, "upstream inner { server SERVER; } server {"+inner,
		"\tssl_certificate     /etc/ssl/chat.pem;\n", "", "\tssl_certificate_key /etc/ssl/chat.key;\n", "",
		"listen 443 ssl", "listen INNER", "http://hosts", "http://inner",
		"proxy_set_header X-Forwarded-Proto $scheme;", strings.TrimSpace(parts[1])+
			"\nadd_header Strict-Transport-Security 'max-age=63072000; includeSubDomains' always;")
}

func TestHAProxy(t *testing.T) {
	path := program(t, "haproxy", "haproxy")
	parts := snippets(t, "haproxy")
	require.Len(t, parts, 1)
	h := newHouse(t)
	h.serve(t, replaced(t, parts[0], ":443", "OUTER", "/etc/ssl/chat.pem", h.both, "127.0.0.1:8080", "SERVER"),
		path, "-db", "-f")
	assert.Equal(t, good, h.find(t))
}

// findings are what clients meet at a proxy: the error code of a signed
// request, or none, and the status of upgrades with the longest token: from a
// page, from a page elsewhere, and from a client that is no browser. Presenting
// the last one's token again, to the server itself, shows whether it was spent.
type findings struct {
	create                         string
	page, elsewhere, client, again int
}

var good = findings{
	page: http.StatusSwitchingProtocols, client: http.StatusSwitchingProtocols,
	elsewhere: http.StatusForbidden, again: http.StatusUnauthorized,
}

// house is a server behind proxies.
type house struct {
	cert, key, both string       // PEM files; both has the two in one
	client          *http.Client // trusts the certificate
	server          string       // the URL without proxies
	outer           string       // address
}

func newHouse(t *testing.T) *house {
	t.Helper()
	h := &house{outer: valkeytest.FreeAddress(t)}
	h.cert, h.key = certificate(t)
	var pair [2][]byte
	for i, name := range []string{h.cert, h.key} {
		var err error
		pair[i], err = os.ReadFile(name)
		require.NoError(t, err)
	}
	h.both = writeFile(t, string(pair[0])+string(pair[1]))
	pool := x509.NewCertPool()
	require.True(t, pool.AppendCertsFromPEM(pair[0]))
	h.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	config, err := json.Marshal(map[string]any{
		"region": region, "rooms": []string{longestRoom()},
		"credentials": []map[string]string{{"accessKeyId": "AKID", "secretAccessKey": "secret"}},
	})
	require.NoError(t, err)
	h.server = quiet(t, "-config", writeFile(t, string(config)), "-forwarded-proto", "X-Forwarded-Proto").url
	return h
}

// serve runs a proxy with a configuration that names the addresses.
func (h *house) serve(t *testing.T, config, path string, args ...string) {
	t.Helper()
	config = strings.NewReplacer("SERVER", strings.TrimPrefix(h.server, "http://"),
		"OUTER", h.outer, "INNER", valkeytest.FreeAddress(t)).Replace(config)
	cmd := exec.Command(path, append(args, writeFile(t, config))...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	dieWithParent(cmd)
	require.NoError(t, cmd.Start())
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-exited
		if t.Failed() {
			t.Logf("%s", log.Bytes())
		}
	})
	require.Eventually(t, func() bool {
		conn, err := net.Dial("tcp", h.outer)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, hang, 10*time.Millisecond, "the proxy doesn't listen")
}

// nginx runs nginx with the page's configuration.
func (h *house) nginx(t *testing.T, config string) {
	t.Helper()
	h.serve(t, "error_log stderr;pid nginx.pid;daemon off;master_process off;events{}http{access_log off;\n"+
		replaced(t, config, "/etc/ssl/chat.pem", h.cert, "/etc/ssl/chat.key", h.key)+"}",
		program(t, "nginx", "nginx-light"), "-e", "stderr", "-p", t.TempDir(), "-c")
}

func (h *house) find(t *testing.T) (f findings) {
	t.Helper()
	front := "https://" + h.outer
	_, err := h.mint(t, front)
	var refused smithy.APIError
	if errors.As(err, &refused) {
		f.create = refused.ErrorCode()
	} else {
		require.NoError(t, err)
	}
	fresh := func() string {
		text, err := h.mint(t, h.server)
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(text), token.MaxLen-10)
		return text
	}
	f.page = h.dial(t, front, front, fresh())
	f.elsewhere = h.dial(t, front, "https://example.org", fresh())
	last := fresh()
	f.client = h.dial(t, front, "", last)
	f.again = h.dial(t, h.server, "", last)
	return f
}

func (h *house) dial(t *testing.T, url, origin, text string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	o := &websocket.DialOptions{HTTPClient: h.client, Subprotocols: []string{text}, HTTPHeader: http.Header{}}
	if origin != "" {
		o.HTTPHeader.Set("Origin", origin)
	}
	conn, resp, err := websocket.Dial(ctx, strings.Replace(url, "http", "ws", 1), o)
	require.NotNil(t, resp, err)
	if conn != nil {
		assert.Equal(t, text, conn.Subprotocol())
		conn.CloseNow()
	}
	return resp.StatusCode
}

// mint mints the longest token.
func (h *house) mint(t *testing.T, url string) (string, error) {
	t.Helper()
	attributes := map[string]string{}
	for i := range 128 {
		attributes[string(rune(i))] = ""
	}
	for i := range 448 {
		attributes[string([]byte{byte('A' + i/26), byte('a' + i%26)})] = ""
	}
	client := sdk.New(sdk.Options{
		BaseEndpoint: aws.String(url), Region: region, HTTPClient: h.client,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "AKID", SecretAccessKey: "secret"}, nil
		}),
	})
	reply, err := client.CreateChatToken(t.Context(), &sdk.CreateChatTokenInput{
		RoomIdentifier:           aws.String(longestRoom()),
		UserId:                   aws.String(strings.Repeat("\U0010FFFF", claims.MaxUserIDRunes)),
		Capabilities:             types.ChatTokenCapability("").Values(),
		SessionDurationInMinutes: aws.Int32(claims.MaxSessionMinutes),
		Attributes:               attributes,
	})
	if err != nil {
		return "", err
	}
	return *reply.Token, nil
}

const region = "us-west-2"

func longestRoom() string {
	const room = "arn:aws:ivschat:" + region + ":123456789012:room/"
	return room + strings.Repeat("x", claims.MaxRoomIdentifierBytes-len(room))
}

// snippets are the configurations of a program in the page.
func snippets(t *testing.T, language string) (all []string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "..", "PROXIES.md"))
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		all = append(all, m[1])
	}
	return all
}

// replaced returns text with each old replaced by the new that follows it. Each
// old must be there, or the test would test something else.
func replaced(t *testing.T, text string, oldnew ...string) string {
	t.Helper()
	for i := 0; i < len(oldnew); i += 2 {
		require.Contains(t, text, oldnew[i])
		text = strings.ReplaceAll(text, oldnew[i], oldnew[i+1])
	}
	return text
}

// program returns where a program is, or skips the test. With
// CHATTOKEN_REQUIRE=1, as in CI, it fails instead.
func program(t *testing.T, name, debianPackage string) string {
	t.Helper()
	for _, name := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
		t.Fatalf("required, but %s is not installed: install %s", name, debianPackage)
	}
	t.Skipf("SKIPPED: %s is not installed: install %s", name, debianPackage)
	return ""
}
