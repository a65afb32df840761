package limits

import "github.com/seed17cb2b26/chattoken/internal/text"

// MaxAttributeBytes is how long the keys and values of all attributes may be
// together.
const MaxAttributeBytes = 1024

// Attributes is what the limits on a map of attributes depend on. It is summed
// up entry by entry, so that the encoder, which goes through the map anyway,
// need not do so twice.
type Attributes struct {
	Bytes    int64 // entries may share memory, and be more than an int of 32 bits
	EmptyKey bool
	BadText  bool // not UTF-8
}

// Add takes one entry into account.
func (a *Attributes) Add(key, value string) {
	a.Bytes += int64(len(key)) + int64(len(value))
	a.EmptyKey = a.EmptyKey || key == ""
	a.BadText = a.BadText || !text.Valid(key) || !text.Valid(value)
}

// Legal reports whether all limits hold.
func (a *Attributes) Legal() bool {
	return !a.EmptyKey && !a.BadText && a.Bytes <= MaxAttributeBytes
}
