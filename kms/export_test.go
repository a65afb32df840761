package kms

import (
	"context"
	"time"

	"github.com/tink-crypto/tink-go-gcpkms/v2/integration/gcpkms"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// OpenGoogle is Open for a server that is not Google's.
func OpenGoogle(ctx context.Context, uri string, options ...gcpkms.Option) (keyring.AEADKEK, error) {
	a, err := openGoogle(ctx, uri, options...)
	if err != nil {
		return keyring.AEADKEK{}, err
	}
	return keyring.AEADKEK{ID: uri, AEAD: bound(a, Timeout)}, nil
}

// Bounded gives a client a timeout, as Open does.
func Bounded(a aead, timeout time.Duration) aead { return bound(a, timeout) }
