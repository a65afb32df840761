package main

import (
	"github.com/seed17cb2b26/chattoken/internal/base64url"
	"github.com/seed17cb2b26/chattoken/internal/box"
	"github.com/seed17cb2b26/chattoken/keyring"
)

// parts is the decoded text of a token.
type parts []byte

// decode decodes a token that has been opened or minted.
func decode(text string) parts {
	b := make(parts, len(text))
	body := b[copy(b, box.Magic):]
	n, _ := base64url.Decode(body, text[len(box.Magic):])
	return b[:len(box.Magic)+n]
}

func (b parts) keyID() keyring.ID  { return keyring.ID(b[len(box.Magic):box.Nonce]) }
func (b parts) nonce() []byte      { return b[box.Nonce:box.Ciphertext] }
func (b parts) ciphertext() []byte { return b[box.Ciphertext : len(b)-box.TagSize] }
func (b parts) tag() []byte        { return b[len(b)-box.TagSize:] }
