package main

import "slices"

// libraries explain the names of peers in tables and charts. A peer that is not
// here goes by its name.
var libraries = []struct{ name, label string }{
	{"chattoken", "chattoken"},
	{"chattoken-copied", "chattoken, copied out"},
	{"tink-aes-gcm", "Tink AES-GCM + CBOR"},
	{"tink-xchacha20", "Tink XChaCha20-Poly1305 + CBOR"},
	{"fernet", "fernet-go + CBOR"},
	{"securecookie", "gorilla/securecookie + CBOR"},
	{"macaroon", "macaroon.v2 + CBOR (signed)"},
	{"kataras-jwt", "kataras/jwt HS256 + GCM"},
	{"jose2go-jwe", "jose2go JWE dir A256GCM"},
	{"go-jose-jwe", "go-jose JWE dir A256GCM"},
	{"jwx-jwe", "lestrrat-go/jwx JWE dir A256GCM"},
	{"golang-jwt-hs256", "golang-jwt HS256 (signed)"},
	{"golang-jwt-eddsa", "golang-jwt EdDSA (signed)"},
	{"o1egl-paseto-v2", "o1egl/paseto v2.local"},
	{"go-paseto-v4", "go-paseto v4.local"},
	{"go-cose-eddsa", "go-cose Sign1 EdDSA + CBOR (signed)"},
}

func label(name string) string {
	i := slices.IndexFunc(libraries, func(l struct{ name, label string }) bool { return l.name == name })
	if i < 0 {
		return name
	}
	return libraries[i].label
}
