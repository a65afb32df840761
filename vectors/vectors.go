// Package vectors has the test vectors of chattoken, and [Read], which reads
// them. SPEC.md, in the root of the module, says what each member means and how
// to run the vectors in another language.
//
// The files are edition1.json and edition2.json. Their groups have the same
// names, and Read joins them. A published file doesn't change; a new edition of
// SPEC.md adds one.
//
// No function makes a ring of a given secret. To open tokens with a
// token.Opener, seal the secret as package keyring describes, and load that.
package vectors

import (
	"embed"
	"encoding/hex"
	"encoding/json"
	"io/fs"
)

// Files has the files as published.
//
//go:embed *.json
var Files embed.FS

// Vectors has all groups of all files.
type Vectors struct {
	Derivations []Derivation `json:"derivations,omitempty"`

	// Valid tokens are minted from Claims, and open to them.
	Valid []Token `json:"valid,omitempty"`

	// Invalid tokens are refused for Reason.
	Invalid []Token `json:"invalid,omitempty"`

	// Opens are tokens to open under a sealed ring.
	Opens []Token `json:"opens,omitempty"`

	Mints []Mint `json:"mints,omitempty"`
	KEKs  []KEK  `json:"keks,omitempty"`

	// Rings are rings that load; their Keys are then as given.
	Rings []Ring `json:"rings,omitempty"`

	// Loads are rings that load or, if there is a Reason, are refused for
	// it.
	Loads []Ring `json:"loads,omitempty"`

	// Authorizations are messages on a connection.
	Authorizations []Authorization `json:"authorizations,omitempty"`

	Accumulated struct {
		Tokens int   `json:"tokens"`
		SHA256 Bytes `json:"sha256"`
	} `json:"accumulated,omitzero"`
}

// Read returns the vectors of all files, in the order of the editions. Each
// call returns a new copy.
func Read() (Vectors, error) {
	var v Vectors
	names, err := fs.Glob(Files, "*.json")
	if err != nil {
		return Vectors{}, err
	}
	for _, name := range names {
		data, err := Files.ReadFile(name)
		if err != nil {
			return Vectors{}, err
		}
		var file Vectors
		if err := json.Unmarshal(data, &file); err != nil {
			return Vectors{}, err
		}
		v.add(file)
	}
	return v, nil
}

func (v *Vectors) add(file Vectors) {
	v.Derivations = append(v.Derivations, file.Derivations...)
	v.Valid = append(v.Valid, file.Valid...)
	v.Invalid = append(v.Invalid, file.Invalid...)
	v.Opens = append(v.Opens, file.Opens...)
	v.Mints = append(v.Mints, file.Mints...)
	v.KEKs = append(v.KEKs, file.KEKs...)
	v.Rings = append(v.Rings, file.Rings...)
	v.Loads = append(v.Loads, file.Loads...)
	v.Authorizations = append(v.Authorizations, file.Authorizations...)
	if file.Accumulated.Tokens > 0 {
		v.Accumulated = file.Accumulated
	}
}

// Derivation is a key and its ID, derived from a secret and a context.
type Derivation struct {
	Name    string `json:"name"`
	Secret  Bytes  `json:"secret"`
	Context Bytes  `json:"context"`
	Key     Bytes  `json:"key"`
	KeyID   Bytes  `json:"keyID"`
}

// Token is a token to open. Its key is derived from Secret. In Opens it is a
// key of the ring Sealed, which KEK opens.
type Token struct {
	Name    string `json:"name"`
	Reason  string `json:"reason,omitempty"` // empty if it opens
	Secret  Bytes  `json:"secret,omitempty"`
	KEK     string `json:"kek,omitempty"`
	Context Bytes  `json:"context"`
	Sealed  Bytes  `json:"sealed,omitempty"`
	Now     int64  `json:"now"`

	// Valid has the fields from Claims to Nonce; other groups don't. Claims
	// has the members of a CreateChatToken request.
	Claims   json.RawMessage `json:"claims,omitempty"`
	IssuedAt int64           `json:"issuedAt,omitempty"`
	TTL      int64           `json:"ttl,omitempty"`
	Payload  Bytes           `json:"payload,omitempty"`
	Nonce    Bytes           `json:"nonce,omitempty"`

	Token string `json:"token"`
}

// Mint is a request to mint a token. The key is that of Secret, in a ring whose
// policy has MaxTTL and ClockSkew. Or it is the primary key of the ring Sealed.
type Mint struct {
	Name      string `json:"name"`
	Secret    Bytes  `json:"secret,omitempty"`
	MaxTTL    int64  `json:"maxTTL,omitempty"`
	ClockSkew int64  `json:"clockSkew,omitempty"`
	KEK       string `json:"kek,omitempty"`
	Context   Bytes  `json:"context"`
	Sealed    Bytes  `json:"sealed,omitempty"`
	Now       int64  `json:"now"`
	TTL       int64  `json:"ttl,omitempty"` // zero: not configured

	// AnyRoom says that a room identifier need not be an ARN.
	AnyRoom bool `json:"anyRoom,omitempty"`

	// Claims has the members of a CreateChatToken request.
	Claims json.RawMessage `json:"claims"`
	Nonce  Bytes           `json:"nonce,omitempty"`

	// The answer is Token with its expirations, or Fields, or Error. Fields
	// has every wrong field. Error is "ttl" or "clock" if that is outside
	// its limits.
	Token             string   `json:"token,omitempty"`
	TokenExpiration   int64    `json:"tokenExpiration,omitempty"`
	SessionExpiration int64    `json:"sessionExpiration,omitempty"`
	Fields            []string `json:"fields,omitempty"`
	Error             string   `json:"error,omitempty"`
}

// Authorization is a message that needs Capabilities, at Now, on the connection
// that Token opened at IssuedAt.
type Authorization struct {
	Name         string   `json:"name"`
	Reason       string   `json:"reason,omitempty"` // empty: authorized
	Secret       Bytes    `json:"secret"`
	Context      Bytes    `json:"context"`
	IssuedAt     int64    `json:"issuedAt"`
	Token        string   `json:"token"`
	Now          int64    `json:"now"`
	Capabilities []string `json:"capabilities"`
}

// KEK is the text of a local KEK and what follows from it, or a Reason.
type KEK struct {
	Name     string `json:"name"`
	Text     string `json:"text"`
	FromFile bool   `json:"fromFile,omitempty"` // Text is all of a file
	Reason   string `json:"reason,omitempty"`   // "kek" if Text is no KEK
	KEKID    string `json:"kekID,omitempty"`
	Key      Bytes  `json:"key,omitempty"` // the wrapping key
}

// Ring is a sealed ring to load, in place of Current if there is one.
type Ring struct {
	Name    string `json:"name"`
	Reason  string `json:"reason,omitempty"` // empty if it is loaded
	KEK     string `json:"kek"`
	Context Bytes  `json:"context"`
	Now     int64  `json:"now,omitempty"`

	// Current is the sealed ring in force, if there is one. CurrentSerial
	// is its serial and the minimum that it is loaded with.
	Current       Bytes  `json:"current,omitempty"`
	CurrentSerial uint64 `json:"currentSerial,omitempty"`

	// These are for Sealed alone.
	RefuseForm1 bool   `json:"refuseForm1,omitempty"`
	MinSerial   uint64 `json:"minSerial,omitempty"` // zero: none
	Sealed      Bytes  `json:"sealed"`
	Serial      uint64 `json:"serial,omitempty"`

	// Keys has the chain, then the revoked keys. Only Rings have it.
	Keys []Key `json:"keys,omitempty"`
}

// Key is a key of a ring. A time of zero is not set.
type Key struct {
	KeyID     Bytes  `json:"keyID"`
	State     string `json:"state"` // at Ring.Now
	Created   int64  `json:"created"`
	Activates int64  `json:"activates"`
	Retires   int64  `json:"retires"`
	Expires   int64  `json:"expires"`
	Revoked   int64  `json:"revoked"`
}

// Bytes is a byte string. In JSON it is hexadecimal.
type Bytes []byte

// MarshalText returns the hexadecimal form, in lower case.
func (b Bytes) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, b), nil }

// UnmarshalText reads the hexadecimal form, in either case.
func (b *Bytes) UnmarshalText(text []byte) (err error) {
	*b, err = hex.AppendDecode([]byte{}, text)
	return err
}
