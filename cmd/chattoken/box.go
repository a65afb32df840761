package main

import (
	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/keyring"
	"github.com/seed17cb2b26/chattoken/token"
)

// box is what the text of a valid token stands for, for show: key ID, nonce,
// ciphertext and tag.
type box []byte

const (
	keyIDSize = len(keyring.ID{})
	nonceSize = 24
	tagSize   = 16
)

func decode(text string) box {
	b := make(box, base64url.DecodedLen(len(text)-len(token.Prefix)))
	n, _ := base64url.Decode(b, text[len(token.Prefix):])
	return b[:n]
}

func (b box) keyID() keyring.ID  { return keyring.ID(b[:keyIDSize]) }
func (b box) nonce() []byte      { return b[keyIDSize:][:nonceSize] }
func (b box) ciphertext() []byte { return b[keyIDSize+nonceSize : len(b)-tagSize] }
func (b box) tag() []byte        { return b[len(b)-tagSize:] }
