package fuzz_test

import (
	"bytes"
	"encoding/base64"
	"math/bits"
	"slices"
	"strings"
	"testing"
	"time"
)

// FuzzOpenMutated opens real tokens after a program has changed them: their
// text, their boxes, or their payloads, which it seals again under a key of the
// ring. The reference decides.
func FuzzOpenMutated(f *testing.F) {
	g := newGateway(f)
	tokens := testTokens(f)
	f.Fuzz(func(t *testing.T, program []byte, ns int64) {
		m := mutator{tape: program, tokens: tokens, keys: g.document.keys()}
		m.text = m.token()
		// Long programs end in text that is no token.
		for range 16 {
			if len(m.tape) == 0 {
				break
			}
			m.step()
		}
		g.requireAsReference(t, m.text, after(ns))
	})
}

// mutator changes a token step by step, as its tape says.
type mutator struct {
	tape
	tokens []string
	keys   []ringKey
	text   string
}

// The steps. A seed spells its program with them.
const (
	flipBit      = iota // a bit of the text
	truncate            // the text
	remove              // a character
	insert              // a character
	splice              // its head and the tail of another token
	respell             // the same box in another spelling
	swapPart            // key ID, nonce, ciphertext or tag of another token
	flipBoxBit          // a bit of the box
	reseal              // a changed payload, under any key
	mutatorSteps        // how many there are
)

func (m *mutator) step() {
	switch kind := m.next() % mutatorSteps; kind {
	case flipBit:
		m.text = string(m.flip([]byte(m.text)))
	case truncate:
		m.text = m.text[:m.below(len(m.text)+1)]
	case remove:
		i := m.below(len(m.text))
		m.text = m.text[:i] + m.text[min(i+1, len(m.text)):]
	case insert:
		i := m.below(len(m.text) + 1)
		m.text = m.text[:i] + string([]byte{m.next()}) + m.text[i:]
	case splice:
		other := m.token()
		m.text = m.text[:m.below(len(m.text)+1)] + other[m.below(len(other)):]
	case respell:
		m.respell()
	default:
		m.stepBox(kind)
	}
}

// stepBox changes what the text encodes, if it encodes anything.
func (m *mutator) stepBox(kind byte) {
	box, ok := unspell(m.text)
	if !ok || len(box) < 48 {
		return
	}
	switch kind {
	case swapPart:
		m.swapPart(box)
	case flipBoxBit:
		box = m.flip(box)
	case reseal:
		m.reseal(box)
		return
	}
	m.text = spell(box)
}

func (m *mutator) token() string { return m.tokens[int(m.next())%len(m.tokens)] }

func (m *mutator) flip(b []byte) []byte {
	if i := m.below(8 * len(b)); len(b) > 0 {
		b[i/8] ^= 1 << (i % 8)
	}
	return b
}

func (m *mutator) swapPart(box []byte) {
	other, _ := unspell(m.token())
	parts := [][2]int{{4, 8}, {8, 32}, {32, min(len(box), len(other)) - 16}}
	if i := int(m.next() % 4); i < len(parts) {
		copy(box[parts[i][0]:parts[i][1]], other[parts[i][0]:])
		return
	}
	copy(box[len(box)-16:], other[len(other)-16:])
}

// respell writes the same bytes in another encoding, or sets spare bits of the
// last character.
func (m *mutator) respell() {
	body := strings.TrimPrefix(m.text, "ct1_")
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil {
		return
	}
	switch m.next() % 5 {
	case 0:
		body = base64.URLEncoding.EncodeToString(b)
	case 1:
		body = base64.RawStdEncoding.EncodeToString(b)
	case 2:
		body = strings.TrimRight(body, "\r\n") + "\r\n"
	case 3:
		body = strings.ReplaceAll(body, "-", "%2D")
	case 4:
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
		if n := len(body); n > 0 {
			i := strings.IndexByte(alphabet, body[n-1]) ^ 1<<(m.next()%4)
			body = body[:n-1] + alphabet[i&63:i&63+1]
		}
	}
	m.text = "ct1_" + body
}

// reseal changes the payload of an authentic token and seals it again.
func (m *mutator) reseal(box []byte) {
	key := m.keys[int(m.next())%len(m.keys)]
	var payload []byte
	for _, k := range m.keys {
		if bytes.Equal(k.id(testContext), box[4:8]) {
			payload, _ = openXC20P(derive(k.Secret, "chattoken/v1 key\x00"+testContext, 32), box[8:32], box[32:], box[:8])
		}
	}
	if payload == nil {
		return
	}
	i := m.below(len(payload))
	switch m.next() % 4 {
	case 0:
		payload = m.flip(payload)
	case 1:
		payload = slices.Delete(payload, i, min(i+1, len(payload)))
	case 2:
		payload = slices.Insert(payload, i, m.next())
	case 3: // the last bytes are the times
		if n := min(int(m.next()%16)+1, len(payload)); n > 0 {
			payload[len(payload)-n] += bits.Reverse8(m.next())
		}
	}
	m.text = key.sealToken(testContext, box[8:32], payload)
}

func mutatedSeeds(testing.TB) []seed {
	// Token 6 is the example under the primary key, 7 the shortest.
	program := func(b ...byte) []any { return args(b, int64(0)) }
	return []seed{
		{"as-it-is", program(6)},
		{"flip-prefix", program(6, flipBit, 0, 9)},
		{"flip-last", program(6, flipBit, 1, 40)},
		{"truncate", program(6, truncate, 0, 90)},
		{"remove", program(6, remove, 0, 50)},
		{"insert-line-feed", program(6, insert, 0, 50, '\n')},
		{"splice-same-key", program(6, splice, 8, 0, 40, 0, 40)},
		{"splice-other-key", program(6, splice, 3, 0, 14, 0, 14)},
		{"pad", program(7, respell, 0)},
		{"standard-alphabet", program(6, respell, 1)},
		{"line-break", program(6, respell, 2)},
		{"percent", program(6, respell, 3)},
		{"spare-bit", program(7, respell, 4, 0)},
		{"swap-key", program(6, swapPart, 9, 0)},
		{"swap-nonce", program(6, swapPart, 7, 1)},
		{"swap-ciphertext", program(6, swapPart, 7, 2)},
		{"swap-tag", program(6, swapPart, 7, 3)},
		{"flip-box", program(6, flipBoxBit, 0, 77)},
		{"reseal-other-key", program(6, reseal, 3, 0, 0, 3, 0, 0)},
		{"reseal-revoked-key", program(6, reseal, 4, 0, 0, 3, 0, 0)},
		{"reseal-flipped", program(6, reseal, 2, 0, 0, 0, 0, 9)},
		{"reseal-shorter", program(6, reseal, 2, 0, 9, 1)},
		{"reseal-longer", program(6, reseal, 2, 0, 9, 2, 65)},
		{"reseal-session", program(6, reseal, 2, 0, 0, 3, 0, 64)},
		{"reseal-ttl", program(6, reseal, 2, 0, 0, 3, 2, 64)},
		{"reseal-later", args([]byte{6, reseal, 2, 0, 0, 3, 4, 96}, int64(2*time.Second))},
		{"two-steps", program(6, reseal, 2, 0, 0, 3, 4, 128, flipBit, 0, 200)},
	}
}
