package ivschat

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	// Every valid request fits into maxBody, even with each character
	// escaped.
	maxBody = 64 << 10

	// maxSkew is how far the time of a signature may be from ours. For so
	// long a signed request can be replayed.
	maxSkew = 5 * time.Minute

	amzDateFormat = "20060102T150405Z"
	service       = "ivschat"
)

// authenticator verifies the signatures of requests: AWS Signature Version 4,
// in the Authorization header. It builds the canonical request from the headers
// that the client says it signed. So a proxy may add headers, and an SDK may
// sign any.
//
// A request must sign its time, and its host, so that nobody can send it to
// another server with the same credentials. Method, path, query and body are
// always signed. The server reads nothing else, not even the content type.
//
// An authenticator is immutable, and retains nothing of a request.
//
// Source: "Create a signed AWS API request" in the IAM User Guide.
type authenticator struct {
	region      string
	credentials map[string]Credential // by access key
}

func newAuthenticator(r Registry) authenticator {
	a := authenticator{r.Region, make(map[string]Credential, len(r.Credentials))}
	for _, c := range r.Credentials {
		c.Rooms = slices.Clone(c.Rooms)
		a.credentials[c.AccessKeyID] = c
	}
	return a
}

// verify returns who signed the request, and its body of at most maxBody bytes.
// The error is an *exception. It reads the body only if the key is known and
// the time is right.
func (a authenticator) verify(r *http.Request, now time.Time) (Credential, []byte, error) {
	sig, err := readSignature(r)
	if err != nil {
		return Credential{}, nil, err
	}
	credential, err := a.find(sig)
	if err != nil {
		return Credential{}, nil, err
	}
	if err := sig.checkTime(now); err != nil {
		return Credential{}, nil, err
	}
	headers, err := sig.canonicalHeaders(r)
	if err != nil {
		return Credential{}, nil, err
	}
	query, err := canonicalQuery(r.URL.RawQuery)
	if err != nil {
		return Credential{}, nil, err
	}
	body, err := readBody(r)
	if err != nil {
		return Credential{}, nil, err
	}
	canonical := fmt.Sprintf("%s\n%s\n%s\n%s\n%s\n%x",
		r.Method, canonicalPath(r.URL), query, headers, sig.headers, sha256.Sum256(body))
	if !hmac.Equal(sig.value, sig.of(canonical, credential.SecretAccessKey)) {
		return Credential{}, nil, invalidSignature("the signature does not match: the secret is another, or something " +
			"changed the request on its way, such as a proxy its Host, which arrived as " + strconv.Quote(r.Host))
	}
	return credential, body, nil
}

// find returns the signature's credential, if it's for this service.
func (a authenticator) find(s signature) (Credential, error) {
	credential, ok := a.credentials[s.accessKey]
	if !ok {
		return Credential{}, unrecognizedClient("no such access key")
	}
	if s.region != a.region || s.service != service {
		return Credential{}, invalidSignature("the signature is for another region or service than " + service + " in " + a.region)
	}
	return credential, nil
}

// signature is what a request says about its signature.
type signature struct {
	accessKey, date, region, service string
	headers                          string // names, joined by semicolons
	value                            []byte
	time                             string // X-Amz-Date
}

// authorization is the only form of the Authorization header that SDKs write.
var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 +` +
	`Credential=(` + accessKeyPattern + `)/([0-9]{8})/([a-z0-9-]{1,64})/([a-z0-9-]{1,64})/aws4_request *, *` +
	`SignedHeaders=([a-z0-9_.-]+(?:;[a-z0-9_.-]+)*) *, *` +
	`Signature=([0-9a-f]{64})$`)

// readSignature reads the signature of a request. It refuses unsupported kinds.
func readSignature(r *http.Request) (signature, error) {
	values, dates := r.Header.Values("Authorization"), r.Header.Values("X-Amz-Date")
	query := r.URL.Query()
	switch {
	case len(r.Header.Values("X-Amz-Security-Token")) > 0, query.Has("X-Amz-Security-Token"):
		return signature{}, unrecognizedClient("temporary credentials are not supported: " +
			"use an access key of the registry, and no session token (AWS_SESSION_TOKEN)")
	case query.Has("X-Amz-Signature"):
		return signature{}, incompleteSignature("presigned requests are not supported: sign in the Authorization header")
	case len(values) == 0:
		return signature{}, missingAuthentication()
	case len(dates) != 1:
		return signature{}, incompleteSignature("there has to be one X-Amz-Date header")
	}
	m := authorization.FindStringSubmatch(values[0])
	if m == nil || len(values) > 1 {
		return signature{}, incompleteSignature("the Authorization header is not one of Signature Version 4 (AWS4-HMAC-SHA256)")
	}
	value, _ := hex.DecodeString(m[6]) // can't fail after the pattern
	return signature{m[1], m[2], m[3], m[4], m[5], value, dates[0]}, nil
}

func (s signature) checkTime(now time.Time) error {
	at, err := time.Parse(amzDateFormat, s.time)
	if err != nil || len(s.time) != len(amzDateFormat) || s.time[:8] != s.date { // Parse takes fractions, too
		return incompleteSignature("X-Amz-Date is not a time (" + amzDateFormat + ") on the day of the credential scope")
	}
	if now.Sub(at).Abs() > maxSkew {
		return invalidSignature("Signature expired or not yet current: check the clock")
	}
	return nil
}

// canonicalHeaders returns a line for each signed header. It joins repeated
// ones by commas, and folds spaces.
func (s signature) canonicalHeaders(r *http.Request) (string, error) {
	names := strings.Split(s.headers, ";")
	if !slices.Equal(names, slices.Compact(slices.Sorted(slices.Values(names)))) {
		return "", incompleteSignature("SignedHeaders are not in alphabetical order, or one occurs twice")
	}
	for _, name := range []string{"host", "x-amz-date"} {
		if !slices.Contains(names, name) {
			return "", incompleteSignature(name + " is not signed")
		}
	}
	var b strings.Builder
	for _, name := range names {
		values := r.Header.Values(name)
		switch {
		case name == "host": // package http takes it out of the header
			values = []string{r.Host}
		case name == "content-length" && r.ContentLength >= 0: // not always in the header of HTTP/2
			values = []string{strconv.FormatInt(r.ContentLength, 10)}
		case len(values) == 0:
			return "", incompleteSignature("the signed header " + name + " did not arrive")
		}
		b.WriteString(name)
		for i, value := range values {
			b.WriteByte(":,"[min(i, 1)])
			b.WriteString(spaces.ReplaceAllString(strings.TrimSpace(value), " "))
		}
		b.WriteByte('\n')
	}
	return b.String(), nil
}

var spaces = regexp.MustCompile(` +`)

// canonicalPath escapes the path as sent, so escapes in it are escaped twice.
// It leaves slashes.
func canonicalPath(u *url.URL) string {
	return strings.ReplaceAll(escape(u.EscapedPath()), "%2F", "/")
}

// canonicalQuery writes each parameter in one way, and sorts them. A plus is a
// plus, not a space.
func canonicalQuery(raw string) (string, error) {
	var parameters [][2]string
	for parameter := range strings.SplitSeq(raw, "&") {
		name, value, _ := strings.Cut(parameter, "=")
		name, err1 := url.PathUnescape(name)
		value, err2 := url.PathUnescape(value)
		if err1 != nil || err2 != nil {
			return "", incompleteSignature("the query cannot be read")
		}
		if parameter != "" {
			parameters = append(parameters, [2]string{escape(name), escape(value)})
		}
	}
	slices.SortFunc(parameters, func(a, b [2]string) int {
		return cmp.Or(strings.Compare(a[0], b[0]), strings.Compare(a[1], b[1]))
	})
	var b strings.Builder
	for i, p := range parameters {
		if i > 0 {
			b.WriteByte('&')
		}
		b.WriteString(p[0] + "=" + p[1])
	}
	return b.String(), nil
}

// escape escapes all but the unreserved characters of RFC 3986.
func escape(s string) string { return strings.ReplaceAll(url.QueryEscape(s), "+", "%20") }

// of returns the signature of a canonical request by a secret, with the scope
// and time of s.
func (s signature) of(canonical, secret string) []byte {
	scope := []string{s.date, s.region, s.service, "aws4_request"}
	key := []byte("AWS4" + secret)
	for _, part := range scope {
		key = authenticate(key, part)
	}
	return authenticate(key, fmt.Sprintf("AWS4-HMAC-SHA256\n%s\n%s\n%x",
		s.time, strings.Join(scope, "/"), sha256.Sum256([]byte(canonical))))
}

func authenticate(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}

func readBody(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return nil, tooLarge()
	case err != nil:
		return nil, validationException("OTHER", "the body could not be read", nil)
	}
	return body, nil
}
