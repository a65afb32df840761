package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// AEADKEK is a [KEK] that encrypts with a key of a key management service. The
// AEAD of Tink's clients for such services has the two methods; module kms
// makes an AEADKEK of a key's URI. It is safe for concurrent use if its AEAD
// is. The zero AEADKEK refuses.
type AEADKEK struct {
	// ID names the key, in 1 to 255 bytes, and is stored in clear with the
	// ring. Two keys must not share an ID. It is also the associated data, so a
	// ciphertext that the key made for another purpose, with other associated
	// data, is not taken for a wrapped key.
	ID string

	// AEAD is authenticated encryption under the one key that ID names. It must
	// refuse what another key has encrypted: a service that finds the key by
	// the ciphertext lets whoever has any key there forge a ring. It must also
	// refuse other associated data, and must not retain its arguments. It
	// should give up after a while, since only some callers have a deadline.
	AEAD interface {
		EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) (ciphertext []byte, err error)
		DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) (plaintext []byte, err error)
	}
}

var errWrapSize = errors.New("keyring: the data key to be wrapped is zero or not 32 bytes long")

// Wrap implements [KEK].
func (k AEADKEK) Wrap(ctx context.Context, dataKey []byte) (kekID string, wrapped []byte, err error) {
	if k.AEAD == nil {
		return "", nil, errNoKEK
	}
	if !validDataKey(dataKey) {
		return "", nil, errWrapSize
	}
	wrapped, err = k.AEAD.EncryptWithContext(ctx, dataKey, []byte(k.ID))
	if err == nil {
		err = checkWrapped(k.ID, wrapped, dataKey)
	}
	if err != nil {
		return "", nil, err
	}
	return k.ID, wrapped, nil
}

// Unwrap implements [KEK]. It does not ask the service about another KEK's ID.
func (k AEADKEK) Unwrap(ctx context.Context, kekID string, wrapped []byte) (dataKey []byte, err error) {
	if k.AEAD == nil {
		return nil, errNoKEK
	}
	if kekID != k.ID {
		return nil, fmt.Errorf("sealed under the KEK %q, not %q", kekID, k.ID)
	}
	if err := checkWrapped(kekID, wrapped, nil); err != nil {
		return nil, err
	}
	dataKey, err = k.AEAD.DecryptWithContext(ctx, wrapped, []byte(k.ID))
	if err == nil && !validDataKey(dataKey) {
		err = errDataKey
	}
	if err != nil {
		clear(dataKey)
		return nil, err
	}
	return dataKey, nil
}

// String returns the ID.
func (k AEADKEK) String() string { return k.ID }

// Format writes the ID, whatever the verb: a printer must not follow the AEAD
// to the credentials of a client.
func (k AEADKEK) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.ID) }

// LogValue returns the ID.
func (k AEADKEK) LogValue() slog.Value { return slog.StringValue(k.ID) }

// MarshalText returns the ID, for JSON as well.
func (k AEADKEK) MarshalText() ([]byte, error) { return []byte(k.ID), nil }
