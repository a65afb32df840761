package claims

import (
	"cmp"
	"slices"
	"strings"
)

// The members of a CreateChatToken request.
const (
	fieldRoom         = "roomIdentifier"
	fieldUserID       = "userId"
	fieldCapabilities = "capabilities"
	fieldAttributes   = "attributes"
	fieldSession      = "sessionDurationInMinutes"

	// fieldUnknown stands for the name of a member that the request does not
	// have: the stranger's own is not echoed.
	fieldUnknown = "(unknown)"
)

var fieldOrder = [...]string{fieldRoom, fieldUserID, fieldCapabilities, fieldAttributes, fieldSession, fieldUnknown}

// ValidationError says which fields of a request are outside the limits: all
// of them, not the first. It is what the service reports as a
// ValidationException with reason FIELD_VALIDATION_FAILED and a fieldList.
type ValidationError struct {
	// Fields has at least one element. They are in the order roomIdentifier,
	// userId, capabilities, attributes, sessionDurationInMinutes, and last
	// "(unknown)", which stands for members that the request does not have.
	Fields []FieldError `json:"fieldList"`
}

// FieldError is what is wrong with one field, and what is allowed. Its JSON
// form is that of the service's ValidationExceptionField.
type FieldError struct {
	Name    string `json:"name"`    // the member of the request, as the service spells it
	Message string `json:"message"` // never contains the value, but may tell its length
}

// Error lists every field.
func (e *ValidationError) Error() string {
	var b strings.Builder
	b.WriteString("claims: invalid request")
	for _, f := range e.Fields {
		b.WriteString("; ")
		b.WriteString(f.Name)
		b.WriteString(": ")
		b.WriteString(f.Message)
	}
	return b.String()
}

// violations collects field errors. The zero value is empty and costs nothing.
type violations []FieldError

func (v *violations) add(name, message string) {
	*v = append(*v, FieldError{name, message})
}

// has reports whether something is already known to be wrong with a field.
func (v violations) has(name string) bool {
	for _, f := range v {
		if f.Name == name {
			return true
		}
	}
	return false
}

func (v violations) err() error {
	if len(v) == 0 {
		return nil
	}
	slices.SortStableFunc(v, func(a, b FieldError) int {
		return cmp.Compare(slices.Index(fieldOrder[:], a.Name), slices.Index(fieldOrder[:], b.Name))
	})
	return &ValidationError{Fields: v}
}
