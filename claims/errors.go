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

	// fieldUnknown stands for any unknown member. The error doesn't echo a
	// stranger's name.
	fieldUnknown = "(unknown)"
)

var fieldOrder = [...]string{fieldRoom, fieldUserID, fieldCapabilities, fieldAttributes, fieldSession, fieldUnknown}

// ValidationError lists every field of a request that is outside the limits.
// The service reports the same as a ValidationException with the reason
// FIELD_VALIDATION_FAILED and a fieldList.
type ValidationError struct {
	// Fields has at least one element. The order is roomIdentifier, userId,
	// capabilities, attributes, sessionDurationInMinutes, and "(unknown)",
	// which stands for all unknown members.
	Fields []FieldError `json:"fieldList"`
}

// FieldError says what is wrong with one field, and what is allowed. Its JSON
// form is that of the service's ValidationExceptionField.
type FieldError struct {
	// Name is the member of the request, as the service spells it.
	Name string `json:"name"`

	// Message never contains the value, but may tell its length.
	Message string `json:"message"`
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

// violations collects field errors. The zero value is empty and needs no
// memory.
type violations []FieldError

func (v *violations) add(name, message string) {
	*v = append(*v, FieldError{name, message})
}

// has reports whether v already has an error of that field.
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
