package keyring

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// ID names a key. It is public: every token carries its key's ID. It is derived
// from the secret, so a ring never has two keys of one ID.
type ID [4]byte

var errID = errors.New("keyring: a key ID is 8 lower-case hexadecimal digits")

// ParseID parses what [ID.String] returns.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != hex.EncodedLen(len(id)) {
		return ID{}, errID
	}
	hex.Decode(id[:], []byte(s))
	if id.String() != s {
		return ID{}, errID
	}
	return id, nil
}

// String returns the ID as 8 lower-case hexadecimal digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// hash returns the ID as an evenly distributed number.
func (id ID) hash() uint32 { return binary.LittleEndian.Uint32(id[:]) }

// MarshalText returns what String does.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is the inverse of MarshalText.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

const (
	keyLabel   = "chattoken/v1 key\x00"
	keyIDLabel = "chattoken/v1 key-id\x00"

	secretSize = 32
)

var errZeroSecret = errors.New("keyring: a secret is all zero")

// key is the secret part of a key. Captured variables hold the secret and the
// cipher, because no printer, encoder or dumper follows those.
type key struct {
	id     ID
	secret func() [secretSize]byte
	seal   func(dst, nonce, plaintext, additionalData []byte) []byte
	open   func(dst, nonce, ciphertext, additionalData []byte) ([]byte, error)
}

// newKey derives a key from its secret, and keeps a copy. It takes a pointer
// because a crash traceback shows values.
func newKey(secret *[secretSize]byte, context string) (key, error) {
	if *secret == [secretSize]byte{} {
		return key{}, errZeroSecret
	}
	k, id, err := derive(secret[:], context)
	if err != nil {
		return key{}, err
	}
	defer clear(k)
	aead, err := newAEAD(k)
	if err != nil {
		return key{}, err
	}
	kept := *secret
	return key{
		id:     id,
		secret: func() [secretSize]byte { return kept },
		seal:   aead.Seal,
		open:   aead.Open,
	}, nil
}

// derive returns the encryption key and its ID. Contexts are free text, so each
// label ends in 0x00: without it, the ID under one context would be the first
// bytes of the key under another.
func derive(secret []byte, context string) ([]byte, ID, error) {
	k, err := expand(secret, keyLabel+context, chacha20poly1305.KeySize)
	if err != nil {
		return nil, ID{}, err
	}
	id, err := expand(secret, keyIDLabel+context, len(ID{}))
	if err != nil {
		return nil, ID{}, err
	}
	return k, ID(id), nil
}

// expand is HKDF-SHA256 with an empty salt.
func expand(secret []byte, info string, size int) ([]byte, error) {
	b, err := hkdf.Key(sha256.New, secret, nil, info, size)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return b, nil
}

// newAEAD returns an error in FIPS 140-only mode.
func newAEAD(key []byte) (cipher.AEAD, error) {
	aead, err := chacha20poly1305.NewX(key)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return aead, nil
}

// generator makes fresh keys and adds them to keys.
type generator struct {
	context string
	keys    map[ID]key
	err     error // the first one; fresh makes nothing after it
}

// fresh makes a key whose ID is new in g.keys: with 32 bits a clash is rare but
// possible.
func (g *generator) fresh() ID {
	for g.err == nil {
		var secret [secretSize]byte
		rand.Read(secret[:])
		k, err := newKey(&secret, g.context)
		clear(secret[:])
		if errors.Is(err, errZeroSecret) {
			continue
		}
		if _, taken := g.keys[k.id]; taken {
			continue
		}
		g.err = err
		g.keys[k.id] = k
		return k.id
	}
	return ID{}
}
