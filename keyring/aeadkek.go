package keyring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// AEADKEK is a [KEK] in a key management service. Module kms makes one from a
// key's URI. An AEAD of Tink's clients fits its field. It is safe for
// concurrent use if its AEAD is. The zero AEADKEK returns errors.
type AEADKEK struct {
	// ID names the key, in 1 to 255 bytes. The sealed ring has it in clear.
	// Two keys must not share an ID. It is also the associated data: a
	// ciphertext that the key made for another purpose is refused.
	ID string

	// AEAD encrypts under the one key that ID names. It must refuse what
	// another key encrypted: if the service finds the key by the
	// ciphertext, whoever has any key there can forge a ring. It must
	// refuse other associated data, and must not retain its arguments. Not
	// all callers set a deadline, so it should have its own.
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

// Unwrap implements [KEK]. It refuses another KEK's ID without asking the
// service.
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

// Format writes the ID, whatever the verb, so that no printer follows the AEAD
// to a client's credentials.
func (k AEADKEK) Format(f fmt.State, _ rune) { fmt.Fprint(f, k.ID) }

// LogValue returns the ID.
func (k AEADKEK) LogValue() slog.Value { return slog.StringValue(k.ID) }

// MarshalText returns the ID, for JSON as well.
func (k AEADKEK) MarshalText() ([]byte, error) { return []byte(k.ID), nil }
