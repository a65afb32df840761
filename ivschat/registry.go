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

// Registry says which rooms there are, and who may call the API. Its JSON form
// is that of the file that the operator writes.
type Registry struct {
	// Region is the one that requests are signed for.
	Region string `json:"region"`

	// Rooms are the ARNs of the rooms that are there from the start. There has
	// to be one: CreateRoom makes rooms in the account and region of the first.
	Rooms []string `json:"rooms"`

	Credentials []Credential `json:"credentials"`
}

// Credential is an access key of the application server. Printed with fmt it
// shows the ID only.
type Credential struct {
	AccessKeyID     string `json:"accessKeyId"`
	SecretAccessKey string `json:"secretAccessKey"`

	// Access is what the key may do: "allow", which is the default, "deny", or
	// "pending-verification" for an account that is not in order yet.
	Access string `json:"access,omitempty"`

	// Rooms are the ARNs of the rooms that the key is for. With nil, or left out,
	// it is for all, and may call CreateRoom and ListRooms, too. An empty list
	// means none.
	Rooms []string `json:"rooms,omitzero"`
}

// accessKeyPattern is what an access key is made of, so that the parts of a
// signature can be told apart.
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

// Demo is a registry for trying things out. Its secret is the example of the
// service's documentation, and known to everyone.
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

// SetRegistry replaces the registry, of which it keeps a copy. After an error
// the old one stays.
//
// No connection ends. A room that is gone lets nobody in any more; whoever is in
// it stays to the end of the session. Rooms keep the settings that UpdateRoom
// gave them, and those that CreateRoom made stay. A room that DeleteRoom deleted
// is back if the new registry has it.
func (s *Server) SetRegistry(r Registry) error {
	if err := r.check(); err != nil {
		return err
	}
	return s.directory.change(func(c *catalog) (*catalog, error) { return c.under(r, s.now()), nil })
}

// ParseRegistry reads a registry. A member that it does not have is an error, so
// is one that occurs twice, and null for a list: none of them may allow what was
// to be denied.
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

// checkRooms wants IDs to be different, also of rooms of different accounts:
// they name rooms to /join and in what ServeVars shows.
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
