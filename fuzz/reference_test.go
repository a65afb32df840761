package fuzz_test

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fxamacker/cbor/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/claims"
	"github.com/seed17cb2b26/chattoken/token"
)

// This file is a second implementation of SPEC.md, with encoding/base64 and
// fxamacker/cbor. It shares only the AEAD and the names of errors with the
// first one. It is slow and plain.

const maxUnix = 253402300799

// plain is what a token says.
type plain struct {
	_              struct{} `cbor:",toarray"`
	Room, User     string
	Capabilities   uint64
	Attributes     map[string]string
	IssuedAt       uint64
	TTL            uint64
	SessionMinutes uint64
}

// deterministic is the encoding of RFC 8949, section 4.2.1. It writes nil as an
// empty map, array or string.
var deterministic = func() cbor.EncMode {
	options := cbor.CoreDetEncOptions()
	options.NilContainers = cbor.NilContainerAsEmpty
	mode, err := options.EncMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := deterministic.Marshal(v)
	require.NoError(t, err)
	return b
}

// decodeExactly decodes b into v and reports whether v encodes to b.
func decodeExactly(b []byte, v any) bool {
	if cbor.Unmarshal(b, v) != nil {
		return false
	}
	again, err := deterministic.Marshal(v)
	return err == nil && bytes.Equal(again, b)
}

func parsePayload(b []byte) (*plain, bool) {
	p := new(plain)
	return p, decodeExactly(b, p) && p.withinLimits()
}

func (p *plain) withinLimits() bool {
	size := 0
	for key, value := range p.Attributes {
		size += len(key) + len(value)
		if key == "" {
			return false
		}
	}
	runes := utf8.RuneCountInString(p.User)
	return len(p.Room) >= 1 && len(p.Room) <= 128 && runes >= 1 && runes <= 128 && p.Capabilities <= 7 && size <= 1024 &&
		p.IssuedAt <= maxUnix && p.SessionMinutes >= 1 && p.SessionMinutes <= 180
}

// claims returns what an opener should return.
func (p *plain) claims() claims.Claims {
	c := claims.Claims{
		RoomIdentifier: p.Room,
		UserID:         p.User,
		Capabilities:   claims.Capabilities(p.Capabilities),
		SessionMinutes: int(p.SessionMinutes),
	}
	if len(p.Attributes) > 0 {
		c.Attributes = p.Attributes
	}
	return c
}

func (p *plain) expiration() time.Time { return time.Unix(int64(p.IssuedAt+p.TTL), 0).UTC() }

func (p *plain) sessionExpiration() time.Time {
	return time.Unix(int64(p.IssuedAt+60*p.SessionMinutes), 0).UTC()
}

// check checks the times of a token.
func (p *plain) check(now time.Time, skew time.Duration) error {
	switch {
	case time.Unix(int64(p.IssuedAt), 0).After(now.Add(skew)):
		return token.ErrNotYetValid
	case p.TTL < 5 || p.TTL > 600 || p.TTL > 60*p.SessionMinutes:
		return token.ErrPayload
	case !now.Before(p.expiration()):
		return token.ErrTokenExpired
	}
	return nil
}

// ringDocument is the plaintext of a sealed ring.
type ringDocument struct {
	_              struct{} `cbor:",toarray"`
	Serial         uint64
	Policy         ringPolicy
	Chain, Revoked []ringKey
}

type ringPolicy struct {
	_                               struct{} `cbor:",toarray"`
	MaxTTL, ClockSkew, Period, Lead uint64
}

type ringKey struct {
	_                                             struct{} `cbor:",toarray"`
	Secret                                        []byte
	Created, Activates, Retires, Expires, Revoked uint64
}

func parseRing(b []byte, context string) (*ringDocument, bool) {
	d := new(ringDocument)
	return d, decodeExactly(b, d) && d.valid(context)
}

// valid checks the rules of SPEC.md, section 7.
func (d *ringDocument) valid(context string) bool {
	keys := d.keys()
	ids := map[string]bool{}
	for _, k := range keys {
		if len(k.Secret) != 32 || bytes.Equal(k.Secret, make([]byte, 32)) ||
			max(k.Created, k.Activates, k.Retires, k.Expires, k.Revoked) > maxUnix {
			return false
		}
		ids[string(k.id(context))] = true
	}
	return d.Serial >= 1 && d.Serial <= math.MaxInt64 && len(keys) <= 4096 && len(ids) == len(keys) &&
		d.Policy.valid() && d.validChain() && !slices.ContainsFunc(d.Revoked, func(k ringKey) bool { return k.Revoked == 0 || k.Expires == 0 })
}

func (p *ringPolicy) valid() bool {
	return p.MaxTTL >= 5 && p.MaxTTL <= 600 && p.ClockSkew >= 1 && p.ClockSkew <= 60 &&
		p.Period >= 1 && p.Period <= 366*24*60*60 && p.Lead > p.ClockSkew && p.Lead <= p.Period
}

func (d *ringDocument) validChain() bool {
	for i, k := range d.Chain {
		if k.Revoked != 0 || i == 0 && k.Activates != 0 {
			return false
		}
		if i == len(d.Chain)-1 {
			return k.Retires == 0 && k.Expires == 0
		}
		if k.Retires != d.Chain[i+1].Activates || k.Retires <= k.Activates || k.Expires < k.Retires+d.Policy.MaxTTL+2*d.Policy.ClockSkew {
			return false
		}
	}
	return false // a chain has a key
}

func (d *ringDocument) keys() []ringKey { return slices.Concat(d.Chain, d.Revoked) }

// state is the table of states: "pending", "primary" and so on.
func (k *ringKey) state(now time.Time) string {
	reached := func(second uint64) bool { return !now.Before(time.Unix(int64(second), 0)) }
	switch {
	case k.Revoked != 0:
		return "revoked"
	case k.Expires != 0 && reached(k.Expires):
		return "expired"
	case k.Activates != 0 && !reached(k.Activates):
		return "pending"
	case k.Retires != 0 && reached(k.Retires):
		return "retired"
	}
	return "primary"
}

func derive(secret []byte, info string, size int) []byte {
	b, err := hkdf.Key(sha256.New, secret, nil, info, size)
	if err != nil {
		panic(err) // the sizes are right
	}
	return b
}

func (k *ringKey) id(context string) []byte {
	return derive(k.Secret, "chattoken/v1 key-id\x00"+context, 4)
}

// sealXC20P and openXC20P are XChaCha20-Poly1305.
func sealXC20P(key, nonce, plaintext, additional []byte) []byte {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err)
	}
	return aead.Seal(nil, nonce, plaintext, additional)
}

func openXC20P(key, nonce, ciphertext, additional []byte) ([]byte, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		panic(err)
	}
	return aead.Open(nil, nonce, ciphertext, additional)
}

// sealToken makes a token of any payload.
func (k *ringKey) sealToken(context string, nonce, payload []byte) string {
	additional := append([]byte("ct1_"), k.id(context)...)
	key := derive(k.Secret, "chattoken/v1 key\x00"+context, 32)
	return spell(slices.Concat(additional, nonce, sealXC20P(key, nonce, payload, additional)))
}

// spell writes a box as a token; unspell is the inverse.
func spell(box []byte) string { return "ct1_" + base64.RawURLEncoding.EncodeToString(box[4:]) }

func unspell(text string) (box []byte, ok bool) {
	body, ok := strings.CutPrefix(text, "ct1_")
	b, err := base64.RawURLEncoding.Strict().DecodeString(body)
	// The decoder skips line breaks.
	ok = ok && err == nil && base64.RawURLEncoding.EncodeToString(b) == body
	return append([]byte("ct1_"), b...), ok
}

// open makes the checks of SPEC.md, section 6, that come before the guard and
// the embedder's rule.
func (d *ringDocument) open(context, text string, now time.Time) (*plain, token.ID, error) {
	box, ok := unspell(text)
	if !ok || len(text) < 76 || len(text) > 3850 {
		return nil, token.ID{}, token.ErrMalformed
	}
	plaintext, err := d.openBox(context, box, now)
	if err != nil {
		return nil, token.ID{}, err
	}
	p, ok := parsePayload(plaintext)
	if !ok {
		return nil, token.ID{}, token.ErrPayload
	}
	if err := p.check(now, time.Duration(d.Policy.ClockSkew)*time.Second); err != nil {
		return nil, token.ID{}, err
	}
	return p, token.ID(box[8:24]), nil
}

func (d *ringDocument) openBox(context string, box []byte, now time.Time) ([]byte, error) {
	keys := d.keys()
	i := slices.IndexFunc(keys, func(k ringKey) bool { return bytes.Equal(k.id(context), box[4:8]) })
	if i < 0 {
		return nil, token.ErrUnknownKey
	}
	switch keys[i].state(now) {
	case "expired":
		return nil, token.ErrUnknownKey
	case "revoked":
		return nil, token.ErrRevokedKey
	}
	key := derive(keys[i].Secret, "chattoken/v1 key\x00"+context, 32)
	plaintext, err := openXC20P(key, box[8:32], box[32:], box[:8])
	if err != nil {
		return nil, token.ErrForged
	}
	return plaintext, nil
}

// envelope has the parts of a sealed ring.
type envelope struct {
	form                              byte
	kekID, wrapped, nonce, ciphertext []byte
}

func (e *envelope) header() []byte {
	n := len(e.wrapped)
	return slices.Concat([]byte("chattoken-keyring"), []byte{e.form, byte(len(e.kekID))}, e.kekID, []byte{byte(n >> 8), byte(n)}, e.wrapped)
}

// sealRing encrypts a document under dataKey. wrapped may be anything.
func sealRing(form byte, context string, kekID, wrapped, dataKey, nonce, document []byte) []byte {
	e := envelope{form: form, kekID: kekID, wrapped: wrapped}
	if form == 2 {
		document = slices.Concat(contextDigest(context), document)
	}
	return slices.Concat(e.header(), nonce, sealXC20P(dataKey, nonce, document, e.header()))
}

// contextDigest begins the plaintext of form 2.
func contextDigest(context string) []byte {
	sum := sha256.Sum256([]byte("chattoken/v1 context\x00" + context))
	return sum[:]
}

// parseEnvelope cuts a sealed ring where its lengths say.
func parseEnvelope(b []byte) (e envelope, ok bool) {
	rest, ok := bytes.CutPrefix(b, []byte("chattoken-keyring"))
	cut := func(n int) []byte {
		if ok = ok && n <= len(rest); !ok {
			return nil
		}
		part := rest[:n]
		rest = rest[n:]
		return part
	}
	number := func(size int) (n int) {
		for _, c := range cut(size) {
			n = n<<8 | int(c)
		}
		return n
	}
	e.form = byte(number(1))
	ok = ok && (e.form == 1 || e.form == 2)
	e.kekID = cut(number(1))
	e.wrapped = cut(number(2))
	e.nonce = cut(24)
	e.ciphertext = rest
	return e, ok && len(e.kekID) > 0 && len(e.wrapped) > 0 && len(b) <= 1<<20
}

// localKEK is the key-encryption key in a file or an environment variable.
type localKEK [32]byte

func (k *localKEK) text() string {
	return "chattoken-kek1_" + base64.RawURLEncoding.EncodeToString(k[:])
}

func (k *localKEK) id() []byte {
	return []byte("local-" + hex.EncodeToString(derive(k[:], "chattoken/v1 kek-id\x00", 8)))
}

func (k *localKEK) key() []byte { return derive(k[:], "chattoken/v1 kek\x00", 32) }

func (k *localKEK) wrap(nonce, dataKey []byte) []byte {
	return slices.Concat(nonce, sealXC20P(k.key(), nonce, dataKey, k.id()))
}

func (k *localKEK) unwrap(kekID, wrapped []byte) (dataKey []byte, ok bool) {
	if !bytes.Equal(kekID, k.id()) || len(wrapped) < 24 {
		return nil, false
	}
	dataKey, err := openXC20P(k.key(), wrapped[:24], wrapped[24:], kekID)
	return dataKey, err == nil && len(dataKey) == 32 && !bytes.Equal(dataKey, make([]byte, 32))
}

// unsealRing returns the document of a sealed ring of that context, or of any
// context in form 1.
func (k *localKEK) unsealRing(b []byte, context string) (document []byte, ok bool) {
	e, ok := parseEnvelope(b)
	if !ok {
		return nil, false
	}
	dataKey, ok := k.unwrap(e.kekID, e.wrapped)
	if !ok {
		return nil, false
	}
	plaintext, err := openXC20P(dataKey, e.nonce, e.ciphertext, e.header())
	if err != nil || e.form == 1 {
		return plaintext, err == nil
	}
	return bytes.CutPrefix(plaintext, contextDigest(context))
}
