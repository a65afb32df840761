package limits

import "github.com/seed17cb2b26/chattoken/internal/text"

// MaxAttributeBytes bounds the length of all keys and values together.
const MaxAttributeBytes = 1024

// Attributes sums up a map of attributes for its limits. The encoder, which
// goes through the map anyway, adds entry by entry.
type Attributes struct {
	Bytes    int64 // int64: entries may share memory
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
