package keyring

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/cryptobyte"

	"github.com/seed17cb2b26/chattoken/internal/box"
)

const (
	sealedMagic   = "chattoken-keyring"
	sealedVersion = 1
	maxSealed     = 1 << 20 // 4096 keys, wrapped by any KEK, need less than half
	dataKeySize   = chacha20poly1305.KeySize
)

var (
	errNotSealed     = errors.New("keyring: not a sealed ring, or cut off")
	errSealedVersion = errors.New("keyring: sealed ring of an unknown version")
	errTooLarge      = errors.New("keyring: sealed ring is larger than 1 MiB")
	errDamaged       = errors.New("keyring: sealed ring is damaged or not authentic")
	errDuplicate     = errors.New("keyring: two keys have the same ID")
)

// Marshal returns the sealed form of the ring, encrypted under a fresh data
// key that kek wraps. Who keeps it in a store of his own replaces it by
// compare-and-swap on [Ring.Serial]: two processes may have made different
// rings of the same serial.
func (r *Ring) Marshal(ctx context.Context, kek KEK) ([]byte, error) {
	plaintext, err := r.load().document()
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	return seal(ctx, kek, plaintext)
}

// fingerprint identifies a version of a ring by its plaintext.
type fingerprint [sha256.Size]byte

// document returns the plaintext of the sealed form.
func (s *snapshot) document() ([]byte, error) {
	if len(s.chain) == 0 {
		return nil, errNoKeys
	}
	secrets := make([][secretSize]byte, 0, len(s.entries)) // growing would leave copies behind
	defer func() { clear(secrets) }()
	for _, e := range s.entries {
		secrets = append(secrets, e.key.secret())
	}
	return encodeDocument(&s.schedule, secrets)
}

// Load makes a ring of its sealed form. It is an error unless everything about
// it is valid; there is never a default key. c.Context must be the one that the
// ring was made with: another one gives other keys, which open nothing.
// c.Policy is not used.
func Load(ctx context.Context, kek KEK, sealed []byte, c Config) (*Ring, error) {
	r, err := newRing(c)
	if err != nil {
		return nil, err
	}
	plaintext, err := unseal(ctx, kek, sealed)
	if err != nil {
		return nil, err
	}
	defer clear(plaintext)
	s, err := r.parse(plaintext)
	if err != nil {
		return nil, err
	}
	r.current.Store(s)
	r.base = sha256.Sum256(plaintext)
	return r, nil
}

// Update puts a newer version of the ring in force and reports whether that
// changed anything. It is meant to be called with whatever the file or store
// has now, as often as wanted. On every error the version in force stays. A
// lower serial is [ErrRollback]; the same one with other content is
// [ErrConflict].
func (r *Ring) Update(ctx context.Context, kek KEK, sealed []byte) (changed bool, err error) {
	plaintext, err := unseal(ctx, kek, sealed)
	if err != nil {
		return false, err
	}
	defer clear(plaintext)
	s, err := r.parse(plaintext)
	if err != nil {
		return false, err
	}
	return r.adopt(s, plaintext)
}

// adopt puts s, which was parsed from plaintext, in force if it is newer.
func (r *Ring) adopt(s *snapshot, plaintext []byte) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.current.Load()
	switch {
	case old == nil:
		return false, errNoKeys
	case s.serial < old.serial:
		return false, ErrRollback
	case s.serial == old.serial:
		own, err := old.document()
		defer clear(own)
		if err != nil || !bytes.Equal(own, plaintext) {
			return false, ErrConflict
		}
	}
	r.current.Store(s)
	r.base = sha256.Sum256(plaintext)
	return s.serial > old.serial, nil
}

// save seals the version in force and hands it to store, if it may replace the
// sealed form old: nil, where there is none. The ring is not locked meanwhile: a
// slow KEK must not keep anybody from revoking a key.
func (r *Ring) save(ctx context.Context, kek KEK, old []byte, store func(sealed []byte) error) error {
	r.mu.Lock()
	s, base := r.load(), r.base
	r.mu.Unlock()
	plaintext, err := s.document()
	if err != nil {
		return err
	}
	defer clear(plaintext)
	own := fingerprint(sha256.Sum256(plaintext))
	if old != nil {
		if err := mayReplace(ctx, kek, old, s.serial, own, base); err != nil {
			return err
		}
	}
	sealed, err := seal(ctx, kek, plaintext)
	if err != nil {
		return err
	}
	if err := store(sealed); err != nil {
		return err
	}
	r.mu.Lock()
	r.base = own
	r.mu.Unlock()
	return nil
}

// mayReplace returns an error unless old is one of two versions: the one to be
// saved, or the one that it was made from. Two writers must not lose each
// other's keys.
func mayReplace(ctx context.Context, kek KEK, old []byte, serial uint64, own, base fingerprint) error {
	plaintext, err := unseal(ctx, kek, old)
	if err != nil {
		return err
	}
	defer clear(plaintext)
	s, secrets, err := decodeDocument(plaintext)
	defer clear(secrets)
	if err != nil {
		return err
	}
	switch fingerprint(sha256.Sum256(plaintext)) {
	case own, base:
		return nil
	}
	if s.serial > serial {
		return ErrRollback
	}
	return ErrConflict
}

// parse derives the keys of a ring and makes all checks that need no other
// version of it.
func (r *Ring) parse(plaintext []byte) (*snapshot, error) {
	s, secrets, err := decodeDocument(plaintext)
	if err != nil {
		return nil, err
	}
	defer clear(secrets)
	keys, err := nameKeys(&s, secrets, r.context)
	if err != nil {
		return nil, err
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	if s.serial < r.minSerial {
		return nil, ErrRollback
	}
	return newSnapshot(s, keys), nil
}

// nameKeys derives the keys from their secrets, and puts into s the IDs that
// follow from them: no file can give a key the name of another one.
func nameKeys(s *schedule, secrets [][secretSize]byte, context string) (map[ID]key, error) {
	keys := make(map[ID]key, len(secrets))
	i := 0
	for slot := range s.all() {
		k, err := newKey(&secrets[i], context)
		if err != nil {
			return nil, err
		}
		if _, taken := keys[k.id]; taken {
			return nil, errDuplicate
		}
		slot.id, keys[k.id] = k.id, k
		i++
	}
	return keys, nil
}

// seal encrypts plaintext under a fresh data key.
func seal(ctx context.Context, kek KEK, plaintext []byte) ([]byte, error) {
	dataKey := make([]byte, dataKeySize)
	defer clear(dataKey)
	rand.Read(dataKey)
	kekID, wrapped, err := wrap(ctx, kek, dataKey)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	b := cryptobyte.NewBuilder([]byte(sealedMagic))
	b.AddUint8(sealedVersion)
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(kekID)) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(wrapped) })
	header := b.BytesOrPanic()
	nonce := make([]byte, box.NonceSize)
	rand.Read(nonce)
	return aead.Seal(append(header, nonce...), nonce, plaintext, header), nil
}

// unseal is the inverse of seal.
func unseal(ctx context.Context, kek KEK, sealed []byte) (plaintext []byte, err error) {
	e, err := parseEnvelope(sealed)
	if err != nil {
		return nil, err
	}
	dataKey, err := unwrap(ctx, kek, e.kekID, e.wrapped)
	if err != nil {
		return nil, err
	}
	defer clear(dataKey)
	aead, err := newAEAD(dataKey)
	if err != nil {
		return nil, err
	}
	plaintext, err = aead.Open(nil, e.nonce, e.ciphertext, e.header)
	if err != nil {
		return nil, errDamaged
	}
	return plaintext, nil
}

// envelope is the parts of a sealed form, which it aliases.
type envelope struct {
	header     []byte // all that is before the nonce
	kekID      string
	wrapped    []byte
	nonce      []byte
	ciphertext []byte
}

func parseEnvelope(sealed []byte) (e envelope, err error) {
	if len(sealed) > maxSealed {
		return envelope{}, errTooLarge
	}
	s := cryptobyte.String(sealed)
	var magic []byte
	var version uint8
	if !s.ReadBytes(&magic, len(sealedMagic)) || string(magic) != sealedMagic || !s.ReadUint8(&version) {
		return envelope{}, errNotSealed
	}
	if version != sealedVersion {
		return envelope{}, errSealedVersion
	}
	var kekID, wrapped cryptobyte.String
	if !s.ReadUint8LengthPrefixed(&kekID) || !s.ReadUint16LengthPrefixed(&wrapped) {
		return envelope{}, errNotSealed
	}
	e.header = sealed[:len(sealed)-len(s)]
	if !s.ReadBytes(&e.nonce, box.NonceSize) || kekID.Empty() || wrapped.Empty() {
		return envelope{}, errNotSealed
	}
	e.kekID, e.wrapped, e.ciphertext = string(kekID), wrapped, s
	return e, nil
}
