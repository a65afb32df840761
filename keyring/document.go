package keyring

import (
	"bytes"
	"errors"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// document is the plaintext of a sealed ring. Arrays have one order, and
// neither duplicate nor unknown fields. An extension is a new version.
type document struct {
	_       struct{} `cbor:",toarray"`
	Serial  uint64
	Policy  documentPolicy
	Chain   []documentKey
	Revoked []documentKey
}

// documentPolicy is a Policy in seconds.
type documentPolicy struct {
	_                               struct{} `cbor:",toarray"`
	MaxTTL, ClockSkew, Period, Lead int64
}

type documentKey struct {
	_                                               struct{} `cbor:",toarray"`
	Secret                                          [secretSize]byte
	Created, Activates, Retires, Expires, RevokedAt int64
}

var errDocument = errors.New("keyring: sealed ring has content that version 1 does not know")

var documentEncoding = func() cbor.EncMode {
	mode, err := cbor.CoreDetEncOptions().EncMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

var documentDecoding = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:   4,
		MaxArrayElements:  maxKeys,
		MaxMapPairs:       16,
		IndefLength:       cbor.IndefLengthForbidden,
		TagsMd:            cbor.TagsForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
	}.DecMode()
	if err != nil {
		panic(err)
	}
	return mode
}()

// encodeDocument encodes a ring. secrets are those of s.all(), in its order.
func encodeDocument(s *schedule, secrets [][secretSize]byte) ([]byte, error) {
	d := document{
		Serial: s.serial,
		Policy: documentPolicy{
			MaxTTL:    seconds(s.policy.MaxTTL),
			ClockSkew: seconds(s.policy.ClockSkew),
			Period:    seconds(s.policy.Period),
			Lead:      seconds(s.policy.Lead),
		},
		Chain:   documentKeys(s.chain, secrets[:len(s.chain)]),
		Revoked: documentKeys(s.revoked, secrets[len(s.chain):]),
	}
	defer clear(d.Chain)
	defer clear(d.Revoked)
	return documentEncoding.Marshal(d)
}

func documentKeys(slots []slot, secrets [][secretSize]byte) []documentKey {
	keys := make([]documentKey, len(slots))
	for i, k := range slots {
		keys[i] = documentKey{
			Secret:    secrets[i],
			Created:   k.created,
			Activates: k.activates,
			Retires:   k.retires,
			Expires:   k.expires,
			RevokedAt: k.revokedAt,
		}
	}
	return keys
}

// decodeDocument reads what encodeDocument wrote, and refuses everything else.
// Even a strict decoder accepts null for a number, and heads that are longer
// than needed. So the result is encoded again, and must be the same. The IDs of
// the keys stay zero.
func decodeDocument(plaintext []byte) (s schedule, secrets [][secretSize]byte, err error) {
	var d document
	err = documentDecoding.Unmarshal(plaintext, &d)
	defer clear(d.Chain)
	defer clear(d.Revoked)
	if err != nil {
		return schedule{}, nil, errDocument
	}
	s = schedule{serial: d.Serial, policy: d.Policy.policy()}
	// Growing would leave copies behind.
	secrets = make([][secretSize]byte, 0, len(d.Chain)+len(d.Revoked))
	s.chain, secrets = documentSlots(d.Chain, secrets)
	s.revoked, secrets = documentSlots(d.Revoked, secrets)
	again, err := encodeDocument(&s, secrets)
	defer clear(again)
	if err != nil || !bytes.Equal(again, plaintext) {
		clear(secrets)
		return schedule{}, nil, errDocument
	}
	return s, secrets, nil
}

// policy converts seconds. Too many wrap around, and then decodeDocument sees
// that they do not encode to the same again.
func (p documentPolicy) policy() Policy {
	return Policy{
		MaxTTL:    time.Duration(p.MaxTTL) * time.Second,
		ClockSkew: time.Duration(p.ClockSkew) * time.Second,
		Period:    time.Duration(p.Period) * time.Second,
		Lead:      time.Duration(p.Lead) * time.Second,
	}
}

func documentSlots(keys []documentKey, secrets [][secretSize]byte) ([]slot, [][secretSize]byte) {
	slots := make([]slot, len(keys))
	for i, k := range keys {
		slots[i] = slot{
			created:   k.Created,
			activates: k.Activates,
			retires:   k.Retires,
			expires:   k.Expires,
			revokedAt: k.RevokedAt,
		}
		secrets = append(secrets, k.Secret)
	}
	return slots, secrets
}
