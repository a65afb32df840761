package keyring

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.org/x/crypto/cryptobyte"

	"github.com/seed17cb2b26/chattoken/internal/box"
)

const (
	sealedMagic  = "chattoken-keyring"
	sealedForm1  = 1
	sealedForm2  = 2
	maxSealed    = 1 << 20 // over twice the largest ring
	dataKeySize  = chacha20poly1305.KeySize
	contextLabel = "chattoken/v1 context\x00"
)

var (
	errNotSealed  = errors.New("keyring: not a sealed ring, or cut off")
	errSealedForm = errors.New("keyring: sealed ring of an unknown form")
	errTooLarge   = errors.New("keyring: sealed ring is larger than 1 MiB")
	errDamaged    = errors.New("keyring: sealed ring is damaged or not authentic")
	errDuplicate  = errors.New("keyring: two keys have the same ID")
	errForm1      = fmt.Errorf("%w: form 1, which names none; see KEYS.md", ErrContext)
)

// Marshal returns the sealed form of the ring, encrypted under a fresh data key
// that kek wraps. In a store of your own, replace it by compare-and-swap on
// [Ring.Serial]: two processes may have made different rings of the same
// serial.
func (r *Ring) Marshal(ctx context.Context, kek KEK) ([]byte, error) {
	s := r.load()
	document, err := s.document()
	if err != nil {
		return nil, err
	}
	defer clear(document)
	sealed, err := seal(ctx, kek, r.context, document)
	if err == nil {
		r.mu.Lock()
		r.known = max(r.known, s.serial)
		r.mu.Unlock()
	}
	return sealed, err
}

// fingerprint identifies a version of a ring by its document.
type fingerprint [sha256.Size]byte

// document returns the encoded plaintext of the ring.
func (s *snapshot) document() ([]byte, error) {
	if len(s.chain) == 0 {
		return nil, errNoKeys
	}
	// Growing would leave copies behind.
	secrets := make([][secretSize]byte, 0, len(s.entries))
	defer func() { clear(secrets) }()
	for _, e := range s.entries {
		secrets = append(secrets, e.key.secret())
	}
	return encodeDocument(&s.schedule, secrets)
}

// version is a sealed ring after it was read.
type version struct {
	*snapshot
	sum  fingerprint
	form uint8
}

// Load makes a ring from its sealed form. Everything about it must be valid:
// there is never a default key. If the ring was made with another c.Context,
// the error is [ErrContext], as it is for form 1 with c.RefuseForm1. c.Policy
// is not used.
func Load(ctx context.Context, kek KEK, sealed []byte, c Config) (*Ring, error) {
	r, err := newRing(c)
	if err != nil {
		return nil, err
	}
	v, err := r.read(ctx, kek, sealed)
	if err != nil {
		return nil, err
	}
	if v.serial > ceiling(c.MinSerial) {
		return nil, errAhead
	}
	r.take(v)
	return r, nil
}

// Update puts a newer version of the ring in force, and reports whether that
// changed anything. Call it as often as you like with what the file or store
// has now. On every error the version in force stays:
//
//   - [ErrContext]: the ring has another context, whatever its serial; or it
//     has form 1, which names none, and form 2 is in force.
//   - [ErrRollback]: its serial is lower.
//   - [ErrConflict]: its serial is the same, but not its content.
//   - It is also refused if its serial is more than 2^32 higher.
func (r *Ring) Update(ctx context.Context, kek KEK, sealed []byte) (changed bool, err error) {
	return r.update(ctx, kek, sealed, 0)
}

// update is Update. It also refuses serials below least, which other processes
// have gone past.
func (r *Ring) update(ctx context.Context, kek KEK, sealed []byte, least uint64) (changed bool, err error) {
	v, err := r.read(ctx, kek, sealed)
	if err != nil {
		return false, err
	}
	return r.adopt(v, least)
}

// adopt puts v in force if it is newer.
func (r *Ring) adopt(v version, least uint64) (changed bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.current.Load()
	switch {
	case old == nil:
		return false, errNoKeys
	case v.form < r.form:
		return false, errForm1
	case v.serial < max(old.serial, least):
		return false, ErrRollback
	case v.serial > ceiling(old.serial):
		return false, errAhead
	case v.serial == old.serial:
		own, err := old.document()
		defer clear(own)
		if err != nil || sha256.Sum256(own) != v.sum {
			return false, ErrConflict
		}
	}
	r.take(v)
	return v.serial > old.serial, nil
}

// take puts v in force unconditionally.
func (r *Ring) take(v version) {
	r.current.Store(v.snapshot)
	r.base, r.form, r.known = v.sum, v.form, v.serial
}

// save seals s and hands it to store, if that may replace old. A nil old means
// that nothing is there. save does not lock the ring: a slow KEK must not keep
// anybody from revoking a key.
func (r *Ring) save(ctx context.Context, kek KEK, s *snapshot, base fingerprint, old []byte, store func(sealed []byte) error) error {
	document, err := s.document()
	if err != nil {
		return err
	}
	defer clear(document)
	own := fingerprint(sha256.Sum256(document))
	if old != nil {
		if err := r.mayReplace(ctx, kek, old, s.serial, own, base); err != nil {
			return err
		}
	}
	sealed, err := seal(ctx, kek, r.context, document)
	if err != nil {
		return err
	}
	if err := store(sealed); err != nil {
		return err
	}
	r.mu.Lock()
	r.base, r.form, r.known = own, sealedForm2, s.serial
	r.mu.Unlock()
	return nil
}

// mayReplace returns an error unless old is the version to be saved, or the one
// that it was made from. Two writers must not lose each other's keys.
func (r *Ring) mayReplace(ctx context.Context, kek KEK, old []byte, serial uint64, own, base fingerprint) error {
	document, _, err := unseal(ctx, kek, r.context, old)
	if err != nil {
		return err
	}
	defer clear(document)
	s, secrets, err := decodeDocument(document)
	defer clear(secrets)
	if err != nil {
		return err
	}
	switch fingerprint(sha256.Sum256(document)) {
	case own, base:
		return nil
	}
	if s.serial > serial {
		return ErrRollback
	}
	return ErrConflict
}

// read opens a sealed form, derives its keys, and checks all that needs no
// other version.
func (r *Ring) read(ctx context.Context, kek KEK, sealed []byte) (version, error) {
	document, form, err := unseal(ctx, kek, r.context, sealed)
	if err != nil {
		return version{}, err
	}
	defer clear(document)
	if form < r.lowest {
		return version{}, errForm1
	}
	s, err := r.parse(document)
	if err != nil {
		return version{}, err
	}
	return version{s, sha256.Sum256(document), form}, nil
}

func (r *Ring) parse(document []byte) (*snapshot, error) {
	s, secrets, err := decodeDocument(document)
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

// nameKeys derives the keys from their secrets, and puts their IDs into s. So
// no file can give a key another key's ID.
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

// contextDigest is how form 2 names the context. Its label sets it apart from
// other hashes of the text.
func contextDigest(context string) [sha256.Size]byte {
	return sha256.Sum256([]byte(contextLabel + context))
}

// seal encrypts a document in form 2, under a fresh data key.
func seal(ctx context.Context, kek KEK, ringContext string, document []byte) ([]byte, error) {
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
	b.AddUint8(sealedForm2)
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(kekID)) })
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(wrapped) })
	header := b.BytesOrPanic()
	nonce := make([]byte, box.NonceSize)
	rand.Read(nonce)
	digest := contextDigest(ringContext)
	plaintext := slices.Concat(digest[:], document)
	defer clear(plaintext)
	return aead.Seal(append(header, nonce...), nonce, plaintext, header), nil
}

// unseal is the inverse of seal. It also reads form 1, which has no context.
func unseal(ctx context.Context, kek KEK, ringContext string, sealed []byte) (document []byte, form uint8, err error) {
	e, err := parseEnvelope(sealed)
	if err != nil {
		return nil, 0, err
	}
	dataKey, err := unwrap(ctx, kek, e.kekID, e.wrapped)
	if err != nil {
		return nil, 0, err
	}
	defer clear(dataKey)
	aead, err := newAEAD(dataKey)
	if err != nil {
		return nil, 0, err
	}
	plaintext, err := aead.Open(nil, e.nonce, e.ciphertext, e.header)
	if err != nil {
		return nil, 0, errDamaged
	}
	if e.form == sealedForm1 {
		return plaintext, sealedForm1, nil
	}
	digest := contextDigest(ringContext)
	if len(plaintext) < len(digest) {
		return nil, 0, errDocument
	}
	if [sha256.Size]byte(plaintext) != digest {
		clear(plaintext)
		return nil, 0, ErrContext
	}
	return plaintext[len(digest):], sealedForm2, nil
}

// envelope is the parts of a sealed form, and aliases it.
type envelope struct {
	header     []byte // all that is before the nonce
	form       uint8
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
	if !s.ReadBytes(&magic, len(sealedMagic)) || string(magic) != sealedMagic || !s.ReadUint8(&e.form) {
		return envelope{}, errNotSealed
	}
	if e.form != sealedForm1 && e.form != sealedForm2 {
		return envelope{}, errSealedForm
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
