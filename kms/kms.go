// Package kms makes a [keyring.KEK] of a key in a key management service. [Open]
// makes it from the key's URI; the command chattoken-kms hands it to programs
// that are not to depend on this module.
//
// The key never leaves the service. A host asks it once when it starts, and
// once for each new version of its keyring. The rotator asks once for each
// version that it loads, and three times for each that it saves. If the service
// does not answer, hosts go on with the keys that they have in memory:
// [keyring.Follower.Refresh] returns the error, and [keyring.Follower.Health]
// turns stale if a new version waits for half the lead. Only a host that starts,
// and the rotator, need the service.
//
// Credentials are found as the cloud's own tools do. Hosts have to be allowed to
// decrypt with this key, and the rotator to encrypt as well; neither needs
// another key. The URI is the associated data: to AWS an encryption context of
// the name "associatedData" and the URI's bytes in hexadecimal, which a policy
// can demand.
//
// The service may rotate the key by itself. Before an old version of it is
// destroyed, the keyring has to be saved once more.
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
// data key, retries included. It is less than that of a helper, so that the
// helper can still say what the service did.
const Timeout = 10 * time.Second

const (
	awsScheme = "aws-kms://"
	gcpScheme = "gcp-kms://"
)

// An alias is none of these: whoever may point it elsewhere could have a ring
// accepted that another key has wrapped.
var (
	awsKey = regexp.MustCompile(`^arn:aws[a-z-]*:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$`)
	gcpKey = regexp.MustCompile(`^projects/[A-Za-z0-9:._-]+/locations/[a-z0-9-]+/keyRings/[A-Za-z0-9_-]+/cryptoKeys/[A-Za-z0-9_-]+$`)
)

var (
	errURI     = errors.New("kms: not the URI of a key: it is aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID (no alias), or gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY (no version)")
	errURILong = errors.New("kms: the URI of the key is longer than 255 bytes")
)

// Open returns the KEK that is the key of a URI, which becomes its ID:
//
//	aws-kms://arn:aws:kms:REGION:ACCOUNT:key/ID
//	gcp-kms://projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY
//
// Neither aliases nor versions of keys are accepted. The replicas of a
// multi-Region key of AWS are different keys here. Google's client was tested
// with a stand-in for the service, AWS's with Local KMS.
//
// Open looks for credentials, which for Google have to be there; it does not
// ask the service. ctx is for that alone. What is opened lasts as long as the
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

// aead is what Tink calls an AEADWithContext.
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

// openGoogle takes options for the tests, which have a server of their own. The
// client may keep the context for as long as it lives.
func openGoogle(ctx context.Context, uri string, options ...gcpkms.Option) (aead, error) {
	return gcpkms.GetAEADWithContext(context.WithoutCancel(ctx), uri, options...)
}

// bounded is an AEAD that does not wait for ever. The clients have no deadline
// of their own, and a refresh that waits would hold up the next one. A dumper
// that follows pointers does not get through the functions to credentials.
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
