package ivschat

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	// maxBody holds every valid request, with each character written as an
	// escape.
	maxBody = 64 << 10

	// maxSkew is by how much the time of a signature may differ from ours. A
	// signed request can be sent again for as long.
	maxSkew = 5 * time.Minute

	amzDateFormat = "20060102T150405Z"
	service       = "ivschat"
)

// authenticator verifies the signatures of requests (AWS Signature Version 4)
// with the SDK's own signer: it signs what was signed once more and compares.
// It is safe for concurrent use.
type authenticator struct {
	region      string
	credentials map[string]Credential // by access key
	signer      *v4.Signer
	now         func() time.Time
}

func newAuthenticator(r Registry, now func() time.Time) *authenticator {
	a := &authenticator{
		region:      r.Region,
		credentials: make(map[string]Credential, len(r.Credentials)),
		signer:      v4.NewSigner(),
		now:         now,
	}
	for _, c := range r.Credentials {
		a.credentials[c.AccessKeyID] = c
	}
	return a
}

// authorization is the header of that name. Repeated, missing or other
// parameters, and signatures in the query, are not supported.
var authorization = regexp.MustCompile(`^AWS4-HMAC-SHA256 ` +
	`Credential=(?<key>[A-Za-z0-9_-]{1,128})/(?<date>[0-9]{8})/(?<region>[a-z0-9-]{1,64})/(?<service>[a-z0-9-]{1,64})/aws4_request, ?` +
	`SignedHeaders=(?<headers>[a-z0-9-]+(?:;[a-z0-9-]+)*), ?` +
	`Signature=(?<signature>[0-9a-f]{64})$`)

// signature is what the Authorization header says.
type signature struct {
	accessKey, date, region, service string
	headers                          []string
	hex                              string
}

func parseAuthorization(h http.Header) (signature, error) {
	values := h.Values("Authorization")
	if len(values) == 0 {
		return signature{}, missingAuthentication()
	}
	m := authorization.FindStringSubmatch(values[0])
	if m == nil || len(values) > 1 {
		return signature{}, incompleteSignature("the Authorization header is not one of Signature Version 4")
	}
	return signature{accessKey: m[1], date: m[2], region: m[3], service: m[4],
		headers: strings.Split(m[5], ";"), hex: m[6]}, nil
}

// verify returns who signed the request, and its body of at most maxBody bytes.
// The error is an *exception. What costs least is checked first; the body is
// read only for a known key and a present time.
func (a *authenticator) verify(r *http.Request) (Credential, []byte, error) {
	sig, err := parseAuthorization(r.Header)
	if err != nil {
		return Credential{}, nil, err
	}
	credential, err := a.find(r.Header, sig)
	if err != nil {
		return Credential{}, nil, err
	}
	at, err := a.checkTime(r.Header, sig.date)
	if err != nil {
		return Credential{}, nil, err
	}
	signed, err := signedRequest(r, sig.headers)
	if err != nil {
		return Credential{}, nil, err
	}
	body, err := readBody(r)
	if err != nil {
		return Credential{}, nil, err
	}
	if !a.matches(signed, credential, body, at, sig) {
		return Credential{}, nil, invalidSignature("the signature does not match")
	}
	return credential, body, nil
}

// find returns the credential of a signature's access key, if the signature is for this
// service.
func (a *authenticator) find(h http.Header, sig signature) (Credential, error) {
	credential, ok := a.credentials[sig.accessKey]
	if !ok || len(h.Values("X-Amz-Security-Token")) > 0 { // there are no temporary credentials
		return Credential{}, unrecognizedClient()
	}
	// The signer keeps a derived key for each region and service that it is asked
	// for: a stranger must not fill its memory.
	if sig.region != a.region || sig.service != service {
		return Credential{}, invalidSignature("the credential is scoped to another region or service")
	}
	return credential, nil
}

// checkTime returns the time at which the request was signed. The signer writes
// it anew, without the fraction of a second that Parse would take.
func (a *authenticator) checkTime(h http.Header, date string) (time.Time, error) {
	text := h.Get("X-Amz-Date")
	at, err := time.Parse(amzDateFormat, text)
	if err != nil || at.Format(amzDateFormat) != text || !strings.HasPrefix(text, date) {
		return time.Time{}, incompleteSignature("X-Amz-Date is missing, or not on the day of the credential scope")
	}
	if d := a.now().Sub(at); d > maxSkew || d < -maxSkew {
		return time.Time{}, invalidSignature("Signature expired or not yet current: check the clock")
	}
	return at, nil
}

// signedRequest returns a request of the parts that were signed.
func signedRequest(r *http.Request, names []string) (*http.Request, error) {
	if err := checkSigned(r, names); err != nil {
		return nil, err
	}
	signed := &http.Request{
		Method: r.Method,
		Host:   r.Host,
		Header: http.Header{},
		// No scheme, lest the signer takes a default port off the host.
		URL: &url.URL{Path: r.URL.Path, RawPath: r.URL.RawPath, RawQuery: r.URL.RawQuery},
	}
	for _, name := range names {
		switch name {
		case "host":
		case "content-length":
			signed.ContentLength = r.ContentLength
		default:
			values := r.Header.Values(name)
			if len(values) != 1 {
				return nil, incompleteSignature("a signed header is missing or given more than once")
			}
			signed.Header.Set(name, values[0])
		}
	}
	return signed, nil
}

// checkSigned wants all to be signed that decides what the request means: host,
// date, and whatever begins with X-Amz-. Method, path, query and body are always
// part of a signature, but of the query only what the signer can read.
func checkSigned(r *http.Request, names []string) error {
	for name := range r.Header {
		if strings.HasPrefix(name, "X-Amz-") && !slices.Contains(names, strings.ToLower(name)) {
			return incompleteSignature("an X-Amz- header is not signed")
		}
	}
	if !slices.Contains(names, "host") {
		return incompleteSignature("the host is not signed")
	}
	if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
		return incompleteSignature("the query cannot be read")
	}
	return nil
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

// matches reports whether the signature is that of the request under the
// credential's secret. The signer has one order of headers, and no other is
// accepted. There are headers that it never signs, User-Agent above all: a request
// that has one of them signed does not match. Current SDKs sign none of them.
func (a *authenticator) matches(signed *http.Request, c Credential, body []byte, at time.Time, want signature) bool {
	hash := sha256.Sum256(body)
	secret := aws.Credentials{AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey}
	err := a.signer.SignHTTP(context.Background(), secret, signed, hex.EncodeToString(hash[:]), service, a.region, at)
	if err != nil {
		return false
	}
	got, err := parseAuthorization(signed.Header)
	return err == nil && slices.Equal(got.headers, want.headers) && hmac.Equal([]byte(got.hex), []byte(want.hex))
}
