package peers_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"gopkg.in/macaroon.v2"
)

// chatMacaroon is a macaroon, signed and not encrypted: the claims are its
// identifier, and its caveat is the expiration.
type chatMacaroon struct{ key []byte }

func newMacaroon(testing.TB) peer { return chatMacaroon{randomKey(32)} }

const timeBefore = "time-before "

func (p chatMacaroon) mint(g grant) (string, error) {
	payload, err := toCBOR(g)
	if err != nil {
		return "", err
	}
	m, err := macaroon.New(p.key, payload, "", macaroon.V2)
	if err != nil {
		return "", err
	}
	expires := time.Now().Add(lifetime).Unix()
	if err := m.AddFirstPartyCaveat(strconv.AppendInt([]byte(timeBefore), expires, 10)); err != nil {
		return "", err
	}
	b, err := m.MarshalBinary()
	return toText(b), err
}

func (p chatMacaroon) verify(text string, g *grant) error {
	b, err := fromText(text)
	if err != nil {
		return err
	}
	var m macaroon.Macaroon
	if err := m.UnmarshalBinary(b); err != nil {
		return err
	}
	if err := m.Verify(p.key, checkCaveat, nil); err != nil {
		return err
	}
	return fromCBOR(m.Id(), g)
}

var errCaveat = errors.New("macaroon: caveat not met")

func checkCaveat(caveat string) error {
	before, ok := strings.CutPrefix(caveat, timeBefore)
	if !ok {
		return errCaveat
	}
	t, err := strconv.ParseInt(before, 10, 64)
	if err != nil || time.Now().Unix() >= t {
		return errCaveat
	}
	return nil
}
