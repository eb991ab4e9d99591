// Package refusal is how the twin's blob service says no: a status, and the code that clients act on.
package refusal

import "net/http"

// Error is an answer that refuses.
type Error struct {
	Status  int    // of HTTP
	Code    string // of the x-ms-error-code header, as the platform spells it
	Message string // for people; clients do not look at it
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// New returns a refusal.
func New(status int, code, message string) error { return &Error{status, code, message} }

// InvalidHeader refuses the value of a header.
func InvalidHeader(name string) error {
	return New(http.StatusBadRequest, "InvalidHeaderValue", "The value of header "+name+" is not usable.")
}

// MissingHeader refuses a request without a header.
func MissingHeader(name string) error {
	return New(http.StatusBadRequest, "MissingRequiredHeader", "Header "+name+" is required.")
}

// InvalidQuery refuses the value of a query parameter.
func InvalidQuery(name string) error {
	return New(http.StatusBadRequest, "InvalidQueryParameterValue", "The value of query parameter "+name+" is not usable.")
}
