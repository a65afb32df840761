package ivschat_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/ivschat"
)

const (
	accessKey = "AKIDEXAMPLE"
	secretKey = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"

	validBody = `{"roomIdentifier":"` + lobby + `","userId":"ann"}`
)

var signingTime = time.Date(2026, 7, 14, 12, 0, 0, 0, time.UTC)

// signing is how a request is signed; the zero value of a field is the default.
type signing struct {
	key, secret, region, service string
	at                           time.Time
	headers                      map[string]string
	noLength                     bool // as botocore, which does not sign the length
	operation                    string
	payloadHash                  string
}

// sign returns a signed request as it arrives at a server.
func (s signing) sign(t testing.TB, body string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/"+cmp.Or(s.operation, "CreateChatToken"), strings.NewReader(body))
	r.Host = "chat.example.com:8080"
	for name, value := range s.headers {
		r.Header.Set(name, value)
	}
	if r.Header.Get("Content-Type") == "" {
		r.Header.Set("Content-Type", "application/json")
	}
	length := r.ContentLength
	if s.noLength {
		r.ContentLength = 0
	}
	if s.at.IsZero() {
		s.at = signingTime
	}
	hash := sha256.Sum256([]byte(body))
	err := v4.NewSigner().SignHTTP(context.Background(),
		aws.Credentials{AccessKeyID: cmp.Or(s.key, accessKey), SecretAccessKey: cmp.Or(s.secret, secretKey)},
		r, cmp.Or(s.payloadHash, hex.EncodeToString(hash[:])), cmp.Or(s.service, "ivschat"), cmp.Or(s.region, "us-west-2"), s.at)
	require.NoError(t, err)
	r.ContentLength = length
	return r
}

// fixedServer is a server whose clock stands still.
func fixedServer(t testing.TB, now time.Time) *ivschat.Server {
	t.Helper()
	server, err := ivschat.New(ivschat.Config{Now: func() time.Time { return now }})
	require.NoError(t, err)
	t.Cleanup(func() { server.Shutdown(context.Background(), 0, 0) })
	return server
}

// hashOf is the SHA-256 of a body in hexadecimal.
func hashOf(body string) string {
	hash := sha256.Sum256([]byte(body))
	return hex.EncodeToString(hash[:])
}

func TestSignatures(t *testing.T) {
	const (
		invalid    = "InvalidSignatureException"
		incomplete = "IncompleteSignatureException"
		stranger   = "UnrecognizedClientException"
	)
	replace := func(old, new string) func(*http.Request) {
		return func(r *http.Request) {
			h := r.Header.Get("Authorization")
			if !strings.Contains(h, old) {
				panic(old + " is not in " + h)
			}
			r.Header.Set("Authorization", strings.Replace(h, old, new, 1))
		}
	}
	set := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	for name, test := range map[string]struct {
		signing signing
		change  func(*http.Request)
		want    string
	}{
		"Go":                       {signing{}, nil, ""},
		"like botocore":            {signing{noLength: true}, nil, ""},
		"like JavaScript":          {signing{headers: map[string]string{"X-Amz-Content-Sha256": hashOf(validBody), "X-Amz-User-Agent": "a  b ", "Amz-Sdk-Request": "attempt=1"}}, nil, ""},
		"added by CloudFront":      {signing{}, set("X-Amz-Cf-Id", "x"), ""},
		"added by a load balancer": {signing{}, set("X-Amzn-Trace-Id", "Root=1"), ""},
		"added by a proxy":         {signing{}, set("X-Forwarded-For", "192.0.2.1"), ""},
		"a header signed twice":    {signing{headers: map[string]string{"X-List": "a, b"}}, nil, ""},
		"without a space": {signing{}, func(r *http.Request) {
			r.Header.Set("Authorization", strings.ReplaceAll(r.Header.Get("Authorization"), ", ", ","))
		}, ""},

		"no signature": {signing{}, func(r *http.Request) { r.Header.Del("Authorization") }, "MissingAuthenticationTokenException"},
		"two":          {signing{}, func(r *http.Request) { r.Header.Add("Authorization", r.Header.Get("Authorization")) }, incomplete},
		"basic":        {signing{}, set("Authorization", "Basic QUtJRDpzZWNyZXQ="), incomplete},
		"empty":        {signing{}, set("Authorization", ""), incomplete},
		"algorithm":    {signing{}, replace("HMAC-SHA256", "HMAC-SHA1"), incomplete},
		"no headers":   {signing{}, replace("SignedHeaders=", "Headers="), incomplete},
		"upper case": {signing{}, func(r *http.Request) {
			h := r.Header.Get("Authorization")
			i := strings.Index(h, "Signature=") + len("Signature=")
			r.Header.Set("Authorization", h[:i]+strings.ToUpper(h[i:]))
		}, incomplete},

		"unknown key":             {signing{key: "AKIDUNKNOWN"}, nil, stranger},
		"another's key":           {signing{}, replace("AKIDEXAMPLE", "AKIDDENIED"), ""}, // has the same secret
		"key in lower case":       {signing{key: "akidexample"}, nil, stranger},
		"wrong secret":            {signing{secret: "x"}, nil, invalid},
		"session token":           {signing{headers: map[string]string{"X-Amz-Security-Token": "x"}}, nil, stranger},
		"temporary key":           {signing{key: "ASIAEXAMPLE", headers: map[string]string{"X-Amz-Security-Token": "x"}}, nil, stranger},
		"presigned":               {signing{}, func(r *http.Request) { presign(t, r, "") }, incomplete},
		"presigned for a session": {signing{}, func(r *http.Request) { presign(t, r, "x") }, stranger},
		"region":                  {signing{region: "us-east-1"}, nil, invalid},
		"service":                 {signing{service: "s3"}, nil, invalid},
		"region changed":          {signing{}, replace("us-west-2", "us-west-1"), invalid},

		"5 minutes late":      {signing{at: signingTime.Add(-ivschat.MaxSkew)}, nil, ""},
		"a second later":      {signing{at: signingTime.Add(-ivschat.MaxSkew - time.Second)}, nil, invalid},
		"5 minutes early":     {signing{at: signingTime.Add(ivschat.MaxSkew)}, nil, ""},
		"a second earlier":    {signing{at: signingTime.Add(ivschat.MaxSkew + time.Second)}, nil, invalid},
		"date of the scope":   {signing{}, replace("/20260714/", "/20260713/"), incomplete},
		"date is changed":     {signing{}, set("X-Amz-Date", "20260714T120001Z"), invalid},
		"date has a fraction": {signing{}, set("X-Amz-Date", "20260714T120000.9Z"), incomplete},
		"date is no date":     {signing{}, set("X-Amz-Date", "yesterday"), incomplete},
		"no date":             {signing{}, func(r *http.Request) { r.Header.Del("X-Amz-Date") }, incomplete},
		"two dates":           {signing{}, func(r *http.Request) { r.Header.Add("X-Amz-Date", "20260714T120000Z") }, incomplete},
		"date is not signed":  {signing{}, replace(";x-amz-date", ""), incomplete},

		"content type is changed":    {signing{}, set("Content-Type", "text/plain"), invalid},
		"content type is gone":       {signing{}, func(r *http.Request) { r.Header.Del("Content-Type") }, incomplete},
		"content type twice":         {signing{}, func(r *http.Request) { r.Header.Add("Content-Type", "x") }, invalid},
		"length is changed":          {signing{}, func(r *http.Request) { r.ContentLength++ }, invalid},
		"length is unknown":          {signing{}, func(r *http.Request) { r.ContentLength = -1 }, incomplete},
		"host is changed":            {signing{}, func(r *http.Request) { r.Host = "evil.example.com" }, invalid},
		"host is not signed":         {signing{}, replace("host;", ""), incomplete},
		"headers unsorted":           {signing{noLength: true}, replace("content-type;host;x-amz-date", "host;content-type;x-amz-date"), incomplete},
		"headers in upper case":      {signing{}, replace("host;", "Host;"), incomplete},
		"a header left out":          {signing{}, replace("content-length;", ""), invalid},
		"a header named twice":       {signing{}, replace("host;", "host;host;"), incomplete},
		"a signed header again":      {signing{headers: map[string]string{"X-List": "a"}}, func(r *http.Request) { r.Header.Add("X-List", "b") }, invalid},
		"a header that is not there": {signing{}, replace("host;", "host;nothing;"), incomplete},

		"method":        {signing{}, func(r *http.Request) { r.Method = http.MethodPut }, invalid},
		"path":          {signing{}, func(r *http.Request) { r.URL.Path = "/createchattoken" }, invalid},
		"query":         {signing{}, func(r *http.Request) { r.URL.RawQuery = "a=b" }, invalid},
		"bad escape":    {signing{}, func(r *http.Request) { r.URL.RawQuery = "a=%zz" }, incomplete},
		"bad name":      {signing{}, func(r *http.Request) { r.URL.RawQuery = "%zz" }, incomplete},
		"path escaped":  {signing{}, func(r *http.Request) { r.URL.RawPath = "/%43reateChatToken" }, invalid},
		"body replaced": {signing{}, func(r *http.Request) { setBody(r, strings.Replace(validBody, "ann", "bob", 1)) }, invalid},
		"body cut":      {signing{noLength: true}, func(r *http.Request) { setBody(r, validBody[:len(validBody)-1]) }, invalid},
		"body longer":   {signing{noLength: true}, func(r *http.Request) { setBody(r, validBody+" ") }, invalid},
		"no body":       {signing{noLength: true}, func(r *http.Request) { setBody(r, "") }, invalid},
		"unsigned body": {signing{payloadHash: "UNSIGNED-PAYLOAD", headers: map[string]string{"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"}}, nil, invalid},
		"hash of another": {signing{headers: map[string]string{"X-Amz-Content-Sha256": hashOf(validBody)}},
			func(r *http.Request) { r.Header.Set("X-Amz-Content-Sha256", hashOf("")) }, invalid},
		"too long": {signing{noLength: true}, func(r *http.Request) { setBody(r, strings.Repeat(" ", ivschat.MaxBody+1)) },
			"RequestEntityTooLargeException"},
	} {
		t.Run(name, func(t *testing.T) {
			server := fixedServer(t, signingTime)
			r := test.signing.sign(t, validBody)
			if test.change != nil {
				test.change(r)
			}
			err := server.Verify(r)
			assert.Equal(t, test.want, ivschat.Code(err), err)
			if test.want == "" {
				assert.NoError(t, err)
			}
		})
	}
}

// presign moves the signature into the query.
func presign(t *testing.T, r *http.Request, sessionToken string) {
	t.Helper()
	r.Header = http.Header{}
	credentials := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey, SessionToken: sessionToken}
	text, _, err := v4.NewSigner().PresignHTTP(t.Context(), credentials, r, hashOf(validBody), "ivschat", "us-west-2", signingTime)
	require.NoError(t, err)
	r.URL, err = url.Parse(text)
	require.NoError(t, err)
}

// A parameter may be written in more than one way, and a plus is a plus.
func TestSignedQuery(t *testing.T) {
	server := fixedServer(t, signingTime)
	r := httptest.NewRequest(http.MethodPost, "/?b=%2B&a-=2&a=1", nil)
	credentials := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}
	require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), credentials, r, hashOf(""), "ivschat", "us-west-2", signingTime))
	for query, want := range map[string]string{
		"b=%2b&a-=2&a=1":   "",
		"a=1&a-=2&b=+":     "",
		"%61=1&a%2D=2&b=+": "",
		"&&a=1&a-=2&b=%2B": "",
		"a=1&a-=2&b=%20":   "InvalidSignatureException",
		"a=1&a-=2":         "InvalidSignatureException",
		"A=1&a-=2&b=%2B":   "InvalidSignatureException",
	} {
		r.URL.RawQuery = query
		assert.Equal(t, want, ivschat.Code(server.Verify(r)), query)
	}
}

// The errors say what to do.
func TestSignatureWords(t *testing.T) {
	for want, s := range map[string]signing{
		"AWS_SESSION_TOKEN":       {headers: map[string]string{"X-Amz-Security-Token": "x"}},
		"check the clock":         {at: signingTime.Add(time.Hour)},
		"ivschat in us-west-2":    {region: "eu-west-1"},
		`"chat.example.com:8080"`: {secret: "x"}, // the host that a proxy may have changed
		"no such access key":      {key: "AKIDUNKNOWN"},
	} {
		assert.Contains(t, ivschat.Message(fixedServer(t, signingTime).Verify(s.sign(t, validBody))), want)
	}
}

func setBody(r *http.Request, body string) { r.Body = http.NoBody; r.Body = readCloser(body) }

func readCloser(body string) *bodyReader { return &bodyReader{strings.NewReader(body)} }

type bodyReader struct{ *strings.Reader }

func (*bodyReader) Close() error { return nil }

// Every bit of the signature counts.
func TestSignatureBits(t *testing.T) {
	server := fixedServer(t, signingTime)
	signed := signing{}.sign(t, validBody)
	header := signed.Header.Get("Authorization")
	const digits = "0123456789abcdef"
	for i := len(header) - 64; i < len(header); i++ {
		for bit := range 4 {
			changed := []byte(header)
			changed[i] = digits[strings.IndexByte(digits, header[i])^1<<bit]
			r := signing{}.sign(t, validBody)
			r.Header.Set("Authorization", string(changed))
			assert.Equal(t, "InvalidSignatureException", ivschat.Code(server.Verify(r)))
		}
	}
	assert.NoError(t, server.Verify(signed))
}

// A signed request is good as long as its time is. The token works once, not
// the request for it.
func TestSignedRequestAgain(t *testing.T) {
	server := fixedServer(t, time.Now())
	var tokens []string
	for range 2 {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, signing{at: time.Now()}.sign(t, validBody))
		require.Equal(t, http.StatusOK, w.Code, w.Body)
		tokens = append(tokens, w.Body.String())
	}
	assert.NotEqual(t, tokens[0], tokens[1])
}

// The body's limit holds with a good signature, too.
func TestLongBody(t *testing.T) {
	server := fixedServer(t, time.Now())
	for size, status := range map[int]int{
		ivschat.MaxBody:     http.StatusOK,
		ivschat.MaxBody + 1: http.StatusRequestEntityTooLarge,
	} {
		body := validBody + strings.Repeat(" ", size-len(validBody))
		w := httptest.NewRecorder()
		server.ServeHTTP(w, signing{at: time.Now()}.sign(t, body))
		assert.Equal(t, status, w.Code)
	}
}

// The server doesn't read unsigned headers.
func TestBodyOfAStranger(t *testing.T) {
	server := fixedServer(t, signingTime)
	for _, r := range []*http.Request{
		signing{key: "AKIDUNKNOWN"}.sign(t, validBody),
		signing{at: signingTime.Add(time.Hour)}.sign(t, validBody),
		httptest.NewRequest(http.MethodPost, "/CreateChatToken", nil),
	} {
		body := &counting{}
		r.Body = body
		server.ServeHTTP(httptest.NewRecorder(), r)
		assert.Zero(t, body.reads)
	}
}

type counting struct {
	bytes.Reader
	reads int
}

func (c *counting) Read(p []byte) (int, error) { c.reads++; return c.Reader.Read(p) }
func (*counting) Close() error                 { return nil }

// TestBotocore verifies requests signed by botocore, a second implementation.
// testdata/sigv4.py wrote them, and writes them again if botocore is installed.
func TestBotocore(t *testing.T) {
	recorded, err := os.ReadFile("testdata/sigv4.jsonl")
	require.NoError(t, err)
	server := fixedServer(t, signingTime)
	count := 0
	for line := range strings.Lines(string(recorded)) {
		var c struct{ Name, Request string }
		require.NoError(t, json.Unmarshal([]byte(line), &c))
		t.Run(c.Name, func(t *testing.T) {
			assert.NoError(t, server.Verify(arrive(t, []byte(c.Request))))
			changed := strings.Replace(c.Request, " HTTP/1.1", "x HTTP/1.1", 1)
			assert.Equal(t, "InvalidSignatureException", ivschat.Code(server.Verify(arrive(t, []byte(changed)))))
		})
		count++
	}
	assert.Greater(t, count, 10)

	t.Run("recorded", func(t *testing.T) {
		const python3 = "/usr/bin/python3" // Debian's: others do not see its packages
		if err := exec.Command(python3, "-I", "-c", "import botocore").Run(); err != nil {
			skip(t, python3+" does not have botocore: install python3-boto3")
		}
		written, err := exec.Command(python3, "-I", "-B", "testdata/sigv4.py").Output()
		require.NoError(t, err)
		assert.Equal(t, string(recorded), string(written))
	})
}

// skip skips the test because something is not installed. With
// CHATTOKEN_REQUIRE=1, as in CI, it fails instead.
func skip(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CHATTOKEN_REQUIRE") == "1" {
		t.Fatalf("required, but: %s", reason)
	}
	t.Skipf("SKIPPED: %s", reason)
}

// arrive is a request as a server reads it.
func arrive(t testing.TB, text []byte) *http.Request {
	t.Helper()
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
	require.NoError(t, err)
	return r
}

// FuzzSignature has the SDK sign a request, which must verify, and must not
// once any part of it has changed.
func FuzzSignature(f *testing.F) {
	server := fixedServer(f, signingTime)
	f.Add("/CreateChatToken", "", "application/json", "", validBody)
	f.Add("/tags/a:b/c d", "b=2&a=1&a=0&empty&x%2Fy=%3D%20%2B", "  a   b\t", "c,  d", "")
	f.Add("/%2F%25", "k=a-b&k=a%2Fb;&a-=4", "", "\u00e9\u0085", "\x00")
	f.Fuzz(func(t *testing.T, path, query, first, second, body string) {
		isControl := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
		if !strings.HasPrefix(path, "/") || strings.ContainsFunc(first+second, isControl) {
			return // not a request
		}
		r := &http.Request{
			Method: http.MethodPost, Host: "chat.example.com:8080",
			URL:    &url.URL{Path: path, RawQuery: query},
			Header: http.Header{"X-List": {first, second}},
			Body:   io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		}
		err := v4.NewSigner().SignHTTP(t.Context(), aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey},
			r, hashOf(body), "ivschat", "us-west-2", signingTime)
		require.NoError(t, err)
		var text bytes.Buffer
		require.NoError(t, r.Write(&text))
		require.NoError(t, server.Verify(arrive(t, text.Bytes())))

		for name, change := range map[string]func(r *http.Request){
			"method": func(r *http.Request) { r.Method = http.MethodPut },
			"path":   func(r *http.Request) { r.URL = r.URL.JoinPath("x") },
			"query":  func(r *http.Request) { r.URL.RawQuery += "&x=" },
			"host":   func(r *http.Request) { r.Host += "0" },
			"header": func(r *http.Request) { r.Header["X-List"][1] += "x" },
			"list":   func(r *http.Request) { r.Header.Add("X-List", "") },
			"body":   func(r *http.Request) { r.Body = io.NopCloser(io.MultiReader(r.Body, strings.NewReader("x"))) },
		} {
			r := arrive(t, text.Bytes())
			change(r)
			assert.Equal(t, "InvalidSignatureException", ivschat.Code(server.Verify(r)), name)
		}
	})
}

// FuzzAuthorization looks for a header other than the request's own that is
// accepted, or that panics.
func FuzzAuthorization(f *testing.F) {
	server := fixedServer(f, signingTime)
	good := signing{}.sign(f, validBody).Header.Get("Authorization")
	parts := strings.SplitAfter(good, "=")
	for i := range parts {
		f.Add(strings.Join(slices.Concat(parts[:i], parts[i+1:]), ""))
	}
	f.Add(good)
	f.Add("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260714/us-west-2/ivschat/aws4_request, SignedHeaders=;, Signature=")
	signature := good[len(good)-64:]
	f.Fuzz(func(t *testing.T, header string) {
		r := signing{}.sign(t, validBody)
		r.Header["Authorization"] = []string{header}
		if server.Verify(r) == nil {
			assert.True(t, strings.HasSuffix(header, "Signature="+signature))
			assert.Contains(t, header, "/20260714/us-west-2/ivschat/aws4_request")
		}
	})
}
