package ivschat

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/seed17cb2b26/chattoken/claims"
)

// exception is an error of the service in the form that its clients know: the
// code in a header, the rest in the body. Members that its code lacks are left
// out.
type exception struct {
	code   string
	status int

	Message      string              `json:"message"`
	Reason       string              `json:"reason,omitempty"`
	Fields       []claims.FieldError `json:"fieldList,omitempty"`
	ResourceID   string              `json:"resourceId,omitempty"`
	ResourceType string              `json:"resourceType,omitempty"`
	Limit        int                 `json:"limit,omitempty"`
}

func (e *exception) Error() string { return e.code }

// The errors of the service model, without ConflictException and
// InternalServerException.

func validationException(reason, message string, fields []claims.FieldError) *exception {
	return &exception{code: "ValidationException", status: http.StatusBadRequest,
		Message: message, Reason: reason, Fields: fields}
}

func accessDenied(operation string) *exception {
	return &exception{code: "AccessDeniedException", status: http.StatusForbidden,
		Message: "not authorized to perform ivschat:" + operation + " on this resource"}
}

func pendingVerification() *exception {
	return &exception{code: "PendingVerification", status: http.StatusForbidden,
		Message: "your account is pending verification"}
}

// The following name a room by its ARN, the model's only type of resource.

func roomNotFound(arn string) *exception {
	return &exception{code: "ResourceNotFoundException", status: http.StatusNotFound,
		Message: "the room does not exist", ResourceID: roomID(arn), ResourceType: "ROOM"}
}

func throttled(arn string, limit int) *exception {
	return &exception{code: "ThrottlingException", status: http.StatusTooManyRequests,
		Message: fmt.Sprintf("more than %d a second", limit), ResourceID: roomID(arn), ResourceType: "ROOM", Limit: limit}
}

func quotaExceeded(arn string, limit int) *exception {
	return &exception{code: "ServiceQuotaExceededException", status: http.StatusPaymentRequired,
		Message:    fmt.Sprintf("there are %d rooms, as many as there may be", limit),
		ResourceID: roomID(arn), ResourceType: "ROOM", Limit: limit}
}

// The errors of every AWS service. Their codes matter: after an
// InvalidSignatureException an SDK compares its clock with the reply's Date
// header, corrects it, and tries again.

func missingAuthentication() *exception {
	return &exception{code: "MissingAuthenticationTokenException", status: http.StatusForbidden,
		Message: "the request is not signed"}
}

func incompleteSignature(message string) *exception {
	return &exception{code: "IncompleteSignatureException", status: http.StatusBadRequest, Message: message}
}

func unrecognizedClient(message string) *exception {
	return &exception{code: "UnrecognizedClientException", status: http.StatusForbidden, Message: message}
}

func invalidSignature(message string) *exception {
	return &exception{code: "InvalidSignatureException", status: http.StatusForbidden, Message: message}
}

func tooLarge() *exception {
	return &exception{code: "RequestEntityTooLargeException", status: http.StatusRequestEntityTooLarge,
		Message: fmt.Sprintf("the body is longer than %d bytes", maxBody)}
}

func internalFailure() *exception {
	return &exception{code: "InternalFailure", status: http.StatusInternalServerError,
		Message: "the request could not be processed"}
}

// writeError writes err. If it is no exception, the client gets an
// InternalFailure, and the log gets err.
func (s *Server) writeError(w http.ResponseWriter, requestID string, err error) {
	var e *exception
	if !errors.As(err, &e) {
		s.log.Error("request failed", "requestId", requestID, "error", err)
		e = internalFailure()
	}
	s.counters.exceptions.Add(e.code, 1)
	w.Header().Set("x-amzn-ErrorType", e.code)
	writeJSON(w, requestID, e.status, e)
}

func writeJSON(w http.ResponseWriter, requestID string, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("x-amzn-RequestId", requestID)
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(body) // fails if the client goes away
}

// newRequestID returns a random UUID, which finds a client's complaint in the
// logs.
func newRequestID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6] = b[6]&0x0f | 0x40 // version 4
	b[8] = b[8]&0x3f | 0x80 // RFC 9562
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
