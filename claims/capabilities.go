package claims

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Capabilities is a set of things that a user may do in a room. Every token
// allows viewing. The zero value is the empty set: view only. Sets are
// comparable; combine them with |.
//
// The text form is a comma-separated list of the service's names. The JSON form
// is an array of them.
type Capabilities uint8

// The capabilities of the service model.
const (
	SendMessage    Capabilities = 1 << iota // SEND_MESSAGE
	DisconnectUser                          // DISCONNECT_USER
	DeleteMessage                           // DELETE_MESSAGE

	// There is no name for "all": code that means all of today's
	// capabilities would get tomorrow's, too.
	known = SendMessage | DisconnectUser | DeleteMessage
)

// capabilityNames[i] is the name of bit i.
var capabilityNames = [...]string{"SEND_MESSAGE", "DISCONNECT_USER", "DELETE_MESSAGE"}

const allNames = "SEND_MESSAGE, DISCONNECT_USER, DELETE_MESSAGE"

var (
	errUnknownCapability = errors.New("claims: unknown capability; allowed: " + allNames)
	errUnknownBits       = errors.New("claims: capabilities have unknown bits set")
)

// ParseCapabilities returns the set of the named capabilities. It refuses
// unknown names; names are case-sensitive. A name may be repeated.
func ParseCapabilities(names ...string) (Capabilities, error) {
	var c Capabilities
	for _, name := range names {
		bit := capability(name)
		if bit == 0 {
			return 0, errUnknownCapability
		}
		c |= bit
	}
	return c, nil
}

// capability returns the capability with that name, or 0.
func capability(name string) Capabilities {
	i := slices.Index(capabilityNames[:], name)
	if i < 0 {
		return 0
	}
	return 1 << i
}

// Has reports whether c has all of want. It is false if want is empty: a check
// for nothing is a mistake.
func (c Capabilities) Has(want Capabilities) bool {
	return want != 0 && c&want == want
}

// Valid reports whether c has no unknown bits.
func (c Capabilities) Valid() bool { return c&^known == 0 }

// Names yields the service's names of the capabilities in c, in a fixed order.
// It passes over unknown bits.
func (c Capabilities) Names() iter.Seq[string] {
	return func(yield func(string) bool) {
		for i, name := range capabilityNames {
			if c&(1<<i) != 0 && !yield(name) {
				return
			}
		}
	}
}

// String returns the names separated by commas, or "none".
func (c Capabilities) String() string {
	switch {
	case !c.Valid():
		return fmt.Sprintf("Capabilities(%#x)", uint8(c))
	case c == 0:
		return "none"
	}
	return c.join()
}

func (c Capabilities) join() string {
	return strings.Join(slices.Collect(c.Names()), ",")
}

// MarshalText returns the names separated by commas, or no text for the empty
// set. It refuses unknown bits.
func (c Capabilities) MarshalText() ([]byte, error) {
	if !c.Valid() {
		return nil, errUnknownBits
	}
	return []byte(c.join()), nil
}

// UnmarshalText reads what MarshalText writes, as strictly as
// [ParseCapabilities]. On an error c keeps its value.
func (c *Capabilities) UnmarshalText(text []byte) error {
	var names []string
	if len(text) > 0 {
		names = strings.Split(string(text), ",")
	}
	return c.set(names)
}

// MarshalJSON returns an array of names. It refuses unknown bits.
func (c Capabilities) MarshalJSON() ([]byte, error) {
	if !c.Valid() {
		return nil, errUnknownBits
	}
	names := slices.AppendSeq([]string{}, c.Names())
	return json.Marshal(names)
}

// UnmarshalJSON reads an array of names, as strictly as [ParseCapabilities].
// null is the empty set. On an error c keeps its value.
func (c *Capabilities) UnmarshalJSON(data []byte) error {
	var names []string
	if err := json.Unmarshal(data, &names); err != nil {
		return err
	}
	return c.set(names)
}

func (c *Capabilities) set(names []string) error {
	parsed, err := ParseCapabilities(names...)
	if err != nil {
		return err
	}
	*c = parsed
	return nil
}
