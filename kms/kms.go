// Package kms makes a [keyring.KEK] from a key in a key management service.
// Call [Open] with the key's URI. A program that must not depend on this module
// runs the command chattoken-kms instead.
//
// The key never leaves the service. A host asks it once when it starts, and
// once for each new version of its keyring. The rotator asks once for each
// version that it loads, and three times for each that it saves. If the service
// does not answer, hosts go on with the keys in memory:
// [keyring.Follower.Refresh] returns the error, and [keyring.Follower.Health]
// turns stale if a new version waits for half the lead. Only the rotator, and a
// host that starts, need the service.
//
// Credentials are found as the cloud's own tools find them. Hosts need the
// right to decrypt with this key, the rotator to encrypt as well. Neither needs
// another key. The URI is the associated data. For AWS that is an encryption
// context: the name is "associatedData", the value the URI's bytes in
// hexadecimal. A policy can demand it.
//
// The service may rotate the key by itself. Before you destroy an old version
// of it, save the keyring once more.
package kms

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/tink-crypto/tink-go-awskms/v3/integration/awskms"
	"github.com/tink-crypto/tink-go-gcpkms/v2/integration/gcpkms"

	"github.com/seed17cb2b26/chattoken/keyring"
)

// Timeout is how long a key management service may take to wrap or unwrap a
// data key, retries included. It is less than a helper's, so that the helper
// can still say what the service did.
const Timeout = 10 * time.Second

const (
	awsScheme = "aws-kms://"
	gcpScheme = "gcp-kms://"
)

// No alias matches: whoever may point it elsewhere could make hosts accept a
// ring that another key wrapped.
var (
	awsKey = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$`)
	gcpKey = regexp.MustCompile(`^projects/[A-Za-z0-9:._-]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]+/cryptoKeys/[A-Za-z0-9_-]+$`)
)

var (
	errURI     = errors.New("kms: not the URI of a key: it is aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID (no alias), or gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY (no version)")
	errURILong = errors.New("kms: the URI of the key is longer than 255 bytes")
)

// Open returns the key of a URI as a KEK, with the URI as its ID:
//
//	aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID
//	gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY
//
// It refuses aliases and versions of keys. The replicas of an AWS multi-Region
// key are different keys here. Google's client was tested with a stand-in for
// the service, AWS's with Local KMS.
//
// Open looks for credentials, and uses ctx for nothing else. Google's must
// exist. Open does not ask the service. The client lasts as long as the
// process.
func Open(ctx context.Context, uri string) (keyring.AEADKEK, error) {
	if len(uri) > 255 {
		return keyring.AEADKEK{}, errURILong
	}
	a, err := open(ctx, uri)
	if err != nil {
		return keyring.AEADKEK{}, err
	}
	return keyring.AEADKEK{ID: uri, AEAD: bound(a, Timeout)}, nil
}

// aead is Tink's AEADWithContext.
type aead interface {
	EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error)
	DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error)
}

func open(ctx context.Context, uri string) (a aead, err error) {
	if name, ok := strings.CutPrefix(uri, awsScheme); ok && awsKey.MatchString(name) {
		a, err = awskms.NewAEADWithContext(ctx, name)
	} else if name, ok := strings.CutPrefix(uri, gcpScheme); ok && gcpKey.MatchString(name) {
		a, err = openGoogle(ctx, uri)
	} else {
		return nil, errURI
	}
	if err != nil {
		return nil, fmt.Errorf("kms: %w", err)
	}
	return a, nil
}

// openGoogle takes options for the tests, which have their own server. The
// client may keep the context as long as it lives.
func openGoogle(ctx context.Context, uri string, options ...gcpkms.Option) (aead, error) {
	return gcpkms.GetAEADWithContext(context.WithoutCancel(ctx), uri, options...)
}

// bounded is an AEAD with a deadline. The clients have none, and a refresh that
// hangs would hold up the next one. A dumper that follows pointers cannot
// follow the functions to credentials.
type bounded struct {
	timeout          time.Duration
	encrypt, decrypt func(ctx context.Context, text, associatedData []byte) ([]byte, error)
}

func bound(a aead, timeout time.Duration) bounded {
	return bounded{timeout, a.EncryptWithContext, a.DecryptWithContext}
}

func (b bounded) EncryptWithContext(ctx context.Context, plaintext, associatedData []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return b.encrypt(ctx, plaintext, associatedData)
}

func (b bounded) DecryptWithContext(ctx context.Context, ciphertext, associatedData []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	return b.decrypt(ctx, ciphertext, associatedData)
}
