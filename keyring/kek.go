package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/box"
)

// KEK is a key-encryption key: it wraps the data key under which a ring is
// sealed. [LocalKEK] and [KEKFile] hold the key themselves. [AEADKEK] asks a
// key management service, and package kekhelper asks another program. Callers
// get its errors wrapped. Methods may be called concurrently.
type KEK interface {
	// Wrap encrypts a data key of 32 bytes, and does not retain it. kekID
	// tells Unwrap which of its keys to use. It has 1 to 255 bytes, and the
	// sealed ring has it in clear. wrapped has 1 to 65,535 bytes. Whoever
	// saves a ring calls Unwrap at once, so a ring that nobody could open
	// replaces nothing.
	Wrap(ctx context.Context, dataKey []byte) (kekID string, wrapped []byte, err error)

	// Unwrap returns the 32 bytes that Wrap was given. The caller owns
	// them, and clears them after use. Anybody may have written the file
	// that the arguments come from. Nothing else makes a ring authentic: if
	// Unwrap returns what Wrap was not given, whoever wrote the file can
	// mint. So Unwrap must refuse a kekID that is none of its own, and
	// whatever Wrap did not return. It must not look up whichever key of a
	// service the file names. Wrapping must need a secret, not a public
	// key.
	Unwrap(ctx context.Context, kekID string, wrapped []byte) (dataKey []byte, err error)
}

// KEKs is a [KEK] of one or more: the first one wraps, and Unwrap asks each in
// turn. Use it to change the KEK and keep the keys. First give every host both.
// Then save the ring with the new one first. Then drop the old one everywhere.
type KEKs []KEK

// Wrap implements [KEK].
func (k KEKs) Wrap(ctx context.Context, dataKey []byte) (kekID string, wrapped []byte, err error) {
	if len(k) == 0 || slices.Contains(k, nil) {
		return "", nil, errNoKEK
	}
	return k[0].Wrap(ctx, dataKey)
}

// Unwrap implements [KEK]. The error joins those of all.
func (k KEKs) Unwrap(ctx context.Context, kekID string, wrapped []byte) (dataKey []byte, err error) {
	if len(k) == 0 || slices.Contains(k, nil) {
		return nil, errNoKEK
	}
	var errs []error
	for _, kek := range k {
		dataKey, err := kek.Unwrap(ctx, kekID, wrapped)
		if err == nil {
			return dataKey, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

var (
	errNoKEK      = errors.New("keyring: no KEK given")
	errKEKID      = errors.New("keyring: the KEK's ID is empty or longer than 255 bytes")
	errWrapped    = errors.New("keyring: the wrapped data key is empty or longer than 65,535 bytes")
	errNotWrapped = errors.New("keyring: the KEK did not encrypt the data key")
	errDataKey    = errors.New("keyring: the KEK returned a data key that is zero or not 32 bytes long")
	errOther      = errors.New("keyring: the KEK does not return the data key that it has wrapped")
	errKEKText    = errors.New("keyring: not a KEK: it is its prefix and 43 characters of base64url")
	errZeroKEK    = errors.New("keyring: the KEK is all zero")
	errKEKDamaged = errors.New("keyring: wrapped data key is damaged or not authentic")
	errKEKMarshal = errors.New("keyring: a KEK is not marshalled; use InsecureText")
)

// wrap calls kek.Wrap and checks what comes back.
func wrap(ctx context.Context, kek KEK, dataKey []byte) (kekID string, wrapped []byte, err error) {
	if kek == nil {
		return "", nil, errNoKEK
	}
	kekID, wrapped, err = kek.Wrap(ctx, dataKey)
	if err != nil {
		return "", nil, fmt.Errorf("keyring: wrapping the data key: %w", err)
	}
	if err := checkWrapped(kekID, wrapped, dataKey); err != nil {
		return "", nil, err
	}
	opened, err := unwrap(ctx, kek, kekID, wrapped)
	defer clear(opened)
	if err != nil {
		return "", nil, fmt.Errorf("keyring: the KEK does not open what it has wrapped: %w", err)
	}
	if !bytes.Equal(opened, dataKey) {
		return "", nil, errOther
	}
	return kekID, wrapped, nil
}

// checkWrapped returns an error for what a sealed ring cannot hold, and for a
// KEK that returns the data key as it was given.
func checkWrapped(kekID string, wrapped, dataKey []byte) error {
	switch {
	case len(kekID) < 1 || len(kekID) > 255:
		return errKEKID
	case len(wrapped) < 1 || len(wrapped) > 65535:
		return errWrapped
	case dataKey != nil && bytes.Contains(wrapped, dataKey):
		return errNotWrapped
	}
	return nil
}

// unwrap calls kek.Unwrap and checks what comes back.
func unwrap(ctx context.Context, kek KEK, kekID string, wrapped []byte) ([]byte, error) {
	if kek == nil {
		return nil, errNoKEK
	}
	dataKey, err := kek.Unwrap(ctx, kekID, wrapped)
	if err != nil {
		return nil, fmt.Errorf("keyring: unwrapping the data key: %w", err)
	}
	if !validDataKey(dataKey) {
		return nil, errDataKey
	}
	return dataKey, nil
}

func validDataKey(b []byte) bool {
	return len(b) == dataKeySize && [dataKeySize]byte(b) != [dataKeySize]byte{}
}

// LocalKEK is a [KEK] of 32 random bytes, for a file or an environment
// variable. It is immutable. No printer or encoder shows it. The zero LocalKEK
// is not valid: it panics.
type LocalKEK struct {
	id   string
	text func() string
	seal func(dst, nonce, plaintext, additionalData []byte) []byte
	open func(dst, nonce, ciphertext, additionalData []byte) ([]byte, error)
}

// KEKPrefix begins the text of every [LocalKEK], for secret scanners.
const KEKPrefix = "chattoken-kek1_"

const (
	kekSize    = 32
	kekLabel   = "chattoken/v1 kek\x00"
	kekIDLabel = "chattoken/v1 kek-id\x00"
)

// GenerateKEK makes a fresh KEK.
func GenerateKEK() (*LocalKEK, error) {
	var secret [kekSize]byte
	defer clear(secret[:])
	rand.Read(secret[:])
	return newLocalKEK(&secret)
}

// ParseKEK parses the text form of a KEK: "chattoken-kek1_" and 43 characters
// of base64url, and nothing else. The error does not repeat it.
func ParseKEK(text string) (*LocalKEK, error) {
	encoded, ok := strings.CutPrefix(text, KEKPrefix)
	if !ok || len(encoded) != base64url.EncodedLen(kekSize) {
		return nil, errKEKText
	}
	var secret [kekSize]byte
	defer clear(secret[:])
	if _, ok := base64url.Decode(secret[:], encoded); !ok {
		return nil, errKEKText
	}
	return newLocalKEK(&secret)
}

// newLocalKEK keeps a copy of secret. It takes a pointer for the reason at
// newKey.
func newLocalKEK(secret *[kekSize]byte) (*LocalKEK, error) {
	if *secret == [kekSize]byte{} {
		return nil, errZeroKEK
	}
	k, err := expand(secret[:], kekLabel, chacha20poly1305.KeySize)
	if err != nil {
		return nil, err
	}
	defer clear(k)
	id, err := expand(secret[:], kekIDLabel, 8)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(k)
	if err != nil {
		return nil, err
	}
	kept := *secret
	return &LocalKEK{
		id:   "local-" + hex.EncodeToString(id),
		text: func() string { return string(base64url.Append([]byte(KEKPrefix), kept[:])) },
		seal: aead.Seal,
		open: aead.Open,
	}, nil
}

// ID returns "local-" and 16 hexadecimal digits. They are derived from the
// secret, and public.
func (k *LocalKEK) ID() string { return k.id }

// InsecureText returns the KEK itself, in the form that [ParseKEK] takes.
// Whoever has it and a sealed ring can mint tokens.
func (k *LocalKEK) InsecureText() string { return k.text() }

// Wrap implements [KEK] with XChaCha20-Poly1305, a random nonce, and the ID as
// additional data. It does not block.
func (k *LocalKEK) Wrap(_ context.Context, dataKey []byte) (kekID string, wrapped []byte, err error) {
	nonce := make([]byte, box.NonceSize, box.NonceSize+len(dataKey)+box.TagSize)
	rand.Read(nonce)
	return k.id, k.seal(nonce, nonce, dataKey, []byte(k.id)), nil
}

// Unwrap implements [KEK]. It does not block.
func (k *LocalKEK) Unwrap(_ context.Context, kekID string, wrapped []byte) (dataKey []byte, err error) {
	if kekID != k.id {
		return nil, fmt.Errorf("sealed under the KEK %q, not %s", kekID, k.id)
	}
	if len(wrapped) < box.NonceSize {
		return nil, errKEKDamaged
	}
	dataKey, err = k.open(nil, wrapped[:box.NonceSize], wrapped[box.NonceSize:], []byte(k.id))
	if err != nil {
		return nil, errKEKDamaged
	}
	return dataKey, nil
}

// String returns the ID.
func (k *LocalKEK) String() string { return k.id }

// Format writes the ID, whatever the verb.
func (k *LocalKEK) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.id) }

// LogValue returns the ID.
func (k *LocalKEK) LogValue() slog.Value { return slog.StringValue(k.id) }

// MarshalJSON returns an error: see [LocalKEK.InsecureText].
func (k *LocalKEK) MarshalJSON() ([]byte, error) { return nil, errKEKMarshal }

// MarshalText returns an error: see [LocalKEK.InsecureText].
func (k *LocalKEK) MarshalText() ([]byte, error) { return nil, errKEKMarshal }

// GobEncode returns an error: see [LocalKEK.InsecureText].
func (k *LocalKEK) GobEncode() ([]byte, error) { return nil, errKEKMarshal }
