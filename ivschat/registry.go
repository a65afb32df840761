package ivschat

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/seed17cb2b26/chattoken/claims"
)

// Registry says which rooms there are, and who may call the API. The operator's
// file has its JSON form.
type Registry struct {
	// Region is the region that requests are signed for.
	Region string `json:"region"`

	// Rooms are the ARNs of the rooms that exist from the start. There must
	// be one, because CreateRoom makes rooms in the account and region of
	// the first.
	Rooms []string `json:"rooms"`

	Credentials []Credential `json:"credentials"`
}

// Credential is an access key of the application server. Package fmt prints
// only its ID.
type Credential struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`

	// Access is what the key may do: "allow", the default; "deny"; or
	// "pending-verification", for an unverified account.
	Access string `json:"access,omitempty"`

	// Rooms are the ARNs of the rooms that the key is for. Nil means all
	// rooms, and only then may the key call CreateRoom and ListRooms. An
	// empty list means none.
	Rooms []string `json:"rooms,omitzero"`
}

// accessKeyPattern has no character that separates the parts of a signature.
const accessKeyPattern = `[A-Za-z0-9_-]{1,128}`

var accessKey = regexp.MustCompile("^" + accessKeyPattern + "$")

// Format writes the ID, whatever the verb.
func (c Credential) Format(f fmt.State, _ rune) { io.WriteString(f, c.AccessKeyID) }

// The values of Credential.Access.
const (
	allow   = "allow"
	deny    = "deny"
	pending = "pending-verification"
)

// Demo is a registry for trying things out. Its secret is public: the example
// of the service's documentation.
func Demo() Registry {
	const secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
	return Registry{
		Region: "us-west-2",
		Rooms: []string{
			"arn:aws:ivschat:us-west-2:123456789012:room/g1H2I3j4k5L6",
			"arn:aws:ivschat:us-west-2:123456789012:room/B2b2B2b2B2b2",
		},
		Credentials: []Credential{
			{AccessKeyID: "AKIDEXAMPLE", SecretAccessKey: secret},
			{AccessKeyID: "AKIDDENIED", SecretAccessKey: secret, Access: deny},
			{AccessKeyID: "AKIDPENDING", SecretAccessKey: secret, Access: pending},
		},
	}
}

// SetRegistry replaces the registry by a copy of r. After an error the old one
// stays.
//
// No connection ends. A removed room refuses newcomers, and whoever is in it
// stays until the session ends. Rooms from CreateRoom stay, and all rooms keep
// their settings from UpdateRoom. A room deleted by DeleteRoom is back if r has
// it.
func (s *Server) SetRegistry(r Registry) error {
	if err := r.check(); err != nil {
		return err
	}
	return s.directory.change(func(c *catalog) (*catalog, error) { return c.under(r, s.now()), nil })
}

// ParseRegistry reads a registry. An unknown member, a repeated one, and null
// for a list are errors, because each could allow what the operator meant to
// deny.
func ParseRegistry(data []byte) (Registry, error) {
	var r Registry
	if err := json.Unmarshal(data, &r, json.RejectUnknownMembers(true), noNullLists); err != nil {
		return Registry{}, fmt.Errorf("ivschat: registry: %w", err)
	}
	return r, r.check()
}

var noNullLists = json.WithUnmarshalers(json.UnmarshalFromFunc(func(d *jsontext.Decoder, _ *[]string) error {
	if d.PeekKind() == 'n' {
		return errors.New("null is not a list")
	}
	return errors.ErrUnsupported
}))

func (r Registry) check() error {
	if r.Region == "" {
		return errors.New("ivschat: registry: no region")
	}
	if len(r.Rooms) == 0 {
		return errors.New("ivschat: registry: no rooms")
	}
	if err := checkRooms(r.Rooms); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, c := range r.Credentials {
		if err := c.check(); err != nil {
			return err
		}
		if seen[c.AccessKeyID] {
			return fmt.Errorf("ivschat: registry: access key %q occurs twice", c.AccessKeyID)
		}
		seen[c.AccessKeyID] = true
	}
	return nil
}

// checkRooms refuses equal IDs, even in different accounts, because /join and
// ServeVars name rooms by ID.
func checkRooms(arns []string) error {
	seen := map[string]bool{}
	for _, room := range arns {
		if !claims.IsRoomARN(room) || len(room) > claims.MaxRoomIdentifierBytes {
			return fmt.Errorf("ivschat: registry: %q is not the ARN of a room", room)
		}
		if seen[roomID(room)] {
			return fmt.Errorf("ivschat: registry: the ID of room %q occurs twice", room)
		}
		seen[roomID(room)] = true
	}
	return nil
}

func (c Credential) check() error {
	switch c.Access {
	case "", allow, deny, pending:
	default:
		return fmt.Errorf("ivschat: registry: access %q of %q", c.Access, c.AccessKeyID)
	}
	if !accessKey.MatchString(c.AccessKeyID) {
		return fmt.Errorf("ivschat: registry: access key %q is not of the form %s", c.AccessKeyID, accessKeyPattern)
	}
	if c.SecretAccessKey == "" {
		return fmt.Errorf("ivschat: registry: access key %q has no secret", c.AccessKeyID)
	}
	return nil
}

// roomID is what follows "room/" in the ARN of a room.
func roomID(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }
