package claims

import "strings"

// The members of a CreateChatToken request.
const (
	fieldRoom         = "roomIdentifier"
	fieldUserID       = "userId"
	fieldCapabilities = "capabilities"
	fieldAttributes   = "attributes"
	fieldSession      = "sessionDurationInMinutes"
)

// ValidationError says which fields of a request are outside the limits: all
// of them, not the first. It is what the service reports as a
// ValidationException with reason FIELD_VALIDATION_FAILED and a fieldList.
type ValidationError struct {
	Fields []FieldError // at least one, in the order of the request's members
}

// FieldError is what is wrong with one field, and what is allowed. Its JSON
// form is that of the service's ValidationExceptionField.
type FieldError struct {
	Name    string `json:"name"`    // the member of the request, as the service spells it
	Message string `json:"message"` // never contains the value
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
	return &ValidationError{Fields: v}
}
