package kms_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/kms"
	"github.com/seed17cb2b26/chattoken/kms/internal/localkms"
)

var secret = []byte("the 32 bytes of a ring's data key")[:32]

func open(t *testing.T, uri string) keyring.AEADKEK {
	t.Helper()
	kek, err := kms.Open(t.Context(), uri)
	require.NoError(t, err)
	return kek
}

func TestRoundTrip(t *testing.T) {
	s := localkms.Start(t)
	uri := s.NewKey(t)
	kek := open(t, uri)
	id, wrapped, err := kek.Wrap(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, uri, id)
	got, err := open(t, uri).Unwrap(t.Context(), id, wrapped)
	require.NoError(t, err)
	require.Equal(t, secret, got)
	for i := range wrapped {
		bad := bytes.Clone(wrapped)
		bad[i] ^= 1
		got, err := kek.Unwrap(t.Context(), id, bad)
		// Local KMS ignores the key's name in a ciphertext once it is
		// told the key.
		if i <= len(uri)-len("aws-kms://") && err == nil {
			require.Equal(t, secret, got)
			continue
		}
		require.Error(t, err)
		require.Nil(t, got)
	}
}

// Whoever may use any key of the account can have the service encrypt a data
// key. If a KEK lets the service find the key by the ciphertext, it opens that,
// and takes the forged ring for authentic.
func TestWrongKey(t *testing.T) {
	s := localkms.Start(t)
	kek, other := open(t, s.NewKey(t)), open(t, s.NewKey(t))
	attackers := keyring.AEADKEK{ID: kek.ID, AEAD: other.AEAD}
	_, wrapped, err := attackers.Wrap(t.Context(), secret)
	require.NoError(t, err)

	// The attack works on a client that does not name the key.
	decrypt := map[string]any{
		"CiphertextBlob":    wrapped,
		"EncryptionContext": map[string]string{"associatedData": hex.EncodeToString([]byte(kek.ID))},
	}
	var found struct{ Plaintext []byte }
	require.Equal(t, http.StatusOK, s.Call(t, "Decrypt", decrypt, &found))
	require.Equal(t, secret, found.Plaintext)

	_, err = kek.Unwrap(t.Context(), kek.ID, wrapped)
	require.Error(t, err)
	ring, err := keyring.New(time.Now(), keyring.Config{})
	require.NoError(t, err)
	forged, err := ring.Marshal(t.Context(), attackers)
	require.NoError(t, err)
	for _, kek := range []keyring.KEK{kek, keyring.KEKs{kek, open(t, s.NewKey(t))}} {
		_, err = keyring.Load(t.Context(), kek, forged, keyring.Config{})
		require.ErrorContains(t, err, "unwrapping the data key")
	}
}

// What the key encrypted for another purpose is no wrapped data key.
func TestOtherContext(t *testing.T) {
	s := localkms.Start(t)
	kek := open(t, s.NewKey(t))
	for _, purpose := range []string{"", "a disk", kek.ID + "/", strings.ToUpper(kek.ID)} {
		c, err := kek.AEAD.EncryptWithContext(t.Context(), secret, []byte(purpose))
		require.NoError(t, err)
		_, err = kek.Unwrap(t.Context(), kek.ID, c)
		require.Error(t, err, purpose)
	}
	before := s.Asked()
	_, err := kek.Unwrap(t.Context(), s.NewKey(t), []byte("w"))
	require.ErrorContains(t, err, "sealed under the KEK")
	require.Equal(t, before+1, s.Asked(), "nothing but the new key was asked for")
}

func TestServiceThatFails(t *testing.T) {
	s := localkms.Start(t)
	kek := open(t, s.NewKey(t))
	_, wrapped, err := kek.Wrap(t.Context(), secret)
	require.NoError(t, err)
	for name, test := range map[string]struct {
		fault localkms.Fault
		want  string
	}{
		"refuses":   {localkms.Refuses, "AccessDeniedException"},
		"throttles": {localkms.Throttles, "ThrottlingException"},
		"gone":      {localkms.Gone, "operation error KMS"},
		"slow":      {localkms.Hangs, "deadline exceeded"},
	} {
		s.Misbehave(test.fault)
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if name == "slow" {
			ctx, cancel = context.WithTimeout(ctx, 50*time.Millisecond)
		}
		id, made, err := kek.Wrap(ctx, secret)
		assert.ErrorContains(t, err, test.want, name)
		assert.Empty(t, id)
		assert.Nil(t, made)
		got, err := kek.Unwrap(ctx, kek.ID, wrapped)
		assert.ErrorContains(t, err, test.want, name)
		assert.Nil(t, got)
		cancel()
	}
	s.Misbehave(nil)
	_, err = kek.Unwrap(t.Context(), kek.ID, wrapped)
	require.NoError(t, err, "the service is back")
	s.Close()
	_, err = kek.Unwrap(t.Context(), kek.ID, wrapped)
	require.Error(t, err, "it is gone for good")
}

// A service that throttles for a moment is asked again.
func TestServiceThatThrottlesOnce(t *testing.T) {
	s := localkms.Start(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "")
	kek := open(t, s.NewKey(t))
	before := s.Asked()
	s.Misbehave(func(w http.ResponseWriter, r *http.Request) bool {
		s.Misbehave(nil)
		return localkms.Throttles(w, r)
	})
	_, _, err := kek.Wrap(t.Context(), secret)
	require.NoError(t, err)
	require.Equal(t, before+2, s.Asked())
}

// stuck answers only when its context ends.
type stuck struct{}

func (stuck) EncryptWithContext(ctx context.Context, _, _ []byte) ([]byte, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (s stuck) DecryptWithContext(ctx context.Context, _, _ []byte) ([]byte, error) {
	return s.EncryptWithContext(ctx, nil, nil)
}

// No call waits for ever, whatever its context.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kek := keyring.AEADKEK{ID: "id", AEAD: kms.Bounded(stuck{}, kms.Timeout)}
		began := time.Now()
		_, _, err := kek.Wrap(context.Background(), secret)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, kms.Timeout, time.Since(began))
		_, err = kek.Unwrap(context.Background(), "id", []byte("w"))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 2*kms.Timeout, time.Since(began))
	})
}

func TestURIs(t *testing.T) {
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	const (
		key    = "aws-kms://arn:aws:kms:us-west-2:111122223333:key/bc436485-5092-42b8-92a3-0aa8b93536dc"
		google = "gcp-kms://projects/p/locations/global/keyRings/chat/cryptoKeys/kek"
	)
	for _, uri := range []string{
		key,
		"aws-kms://arn:aws:kms:us-west-2:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
		"aws-kms://arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/1",
	} {
		kek, err := kms.Open(t.Context(), uri)
		require.NoError(t, err)
		require.Equal(t, uri, kek.ID)
	}
	for _, uri := range []string{
		"", "x", key[10:], key + "/", key + "\n", " " + key, strings.ToUpper(key), strings.Replace(key, "aws-kms", "hcvault", 1),
		"aws-kms://arn:aws:kms:us-west-2:111122223333:alias/kek",
		"aws-kms://alias/kek",
		"aws-kms://bc436485-5092-42b8-92a3-0aa8b93536dc",
		"aws-kms://arn:aws:kms:us-west-2:111122223333:key/",
		"aws-kms://arn:aws:kms:us-west-2::key/1",
		"aws-kms://arn:aws:s3:us-west-2:111122223333:key/1",
		"gcp-kms://", google[10:], google + "/", google + "/cryptoKeyVersions/1", google + "\n",
		"gcp-kms://projects/p/locations/global/keyRings/chat",
		"gcp-kms://" + key[10:], "aws-kms://" + google[10:],
	} {
		kek, err := kms.Open(t.Context(), uri)
		assert.ErrorContains(t, err, "not the URI of a key", uri)
		assert.Zero(t, kek)
	}
	_, err := kms.Open(t.Context(), key+strings.Repeat("a", 255))
	require.ErrorContains(t, err, "longer than 255 bytes")
}

// Google's client does not start without credentials.
func TestGoogleWithoutCredentials(t *testing.T) {
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nonexistent")
	kek, err := kms.Open(t.Context(), "gcp-kms://projects/p/locations/global/keyRings/chat/cryptoKeys/kek")
	require.ErrorContains(t, err, "kms: ")
	require.Zero(t, kek)
}

// recorder keeps testify's messages about two values that differ.
type recorder struct{ text string }

func (r *recorder) Errorf(format string, args ...any) { r.text += fmt.Sprintf(format, args...) }

// No printer or dumper shows the credentials of a client.
func TestCredentialsAreNotShown(t *testing.T) {
	s := localkms.Start(t)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-shown")
	kek := open(t, s.NewKey(t))
	// After this the client has the credentials.
	_, _, err := kek.Wrap(t.Context(), secret)
	require.NoError(t, err)
	type holder struct{ kek keyring.KEK }
	var r recorder
	assert.Equal(&r, holder{kek}, holder{})
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x"} {
		r.text += fmt.Sprintf(verb, kek) + fmt.Sprintf(verb, holder{kek}) + fmt.Sprintf(verb, &holder{kek})
	}
	require.Contains(t, r.text, kek.ID)
	require.NotContains(t, r.text, "not-to-be-shown")
	require.NotContains(t, r.text, hex.EncodeToString([]byte("not-to-be-shown")))
}
