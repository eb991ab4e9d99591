package arm

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/holdfast-backup/holdfast"
)

// Error is an ARM error answer: {"error":{"code","message","target","details"}} under its HTTP status.
type Error struct {
	Status  int
	Code    string
	Message string
	Target  string
	Details []*Error
	Header  http.Header // additional headers, such as Retry-After
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf makes an Error.
func Errorf(status int, code, format string, args ...any) *Error {
	return &Error{Status: status, Code: code, Message: fmt.Sprintf(format, args...)}
}

// At returns a copy that names the part of the request at fault.
func (e *Error) At(target string) *Error {
	c := *e
	c.Target = target
	return &c
}

// MarshalJSON writes the inner error object.
func (e *Error) MarshalJSON() ([]byte, error) {
	body := map[string]any{"code": e.Code, "message": e.Message}
	if e.Target != "" {
		body["target"] = e.Target
	}
	if len(e.Details) > 0 {
		body["details"] = e.Details
	}
	return json.Marshal(body)
}

// errorOf finds the ARM answer for any error: an *Error as it stands, our own kinds by their nearest status.
func errorOf(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	var ours *holdfast.Error
	message := "The request failed for a reason inside the twin: " + err.Error()
	if errors.As(err, &ours) {
		message = ours.Error()
	}
	switch holdfast.KindOf(err) {
	case holdfast.KindInvalid:
		return Errorf(http.StatusBadRequest, "InvalidParameter", "%s", message)
	case holdfast.KindNotFound:
		return Errorf(http.StatusNotFound, "ResourceNotFound", "%s", message)
	case holdfast.KindConflict, holdfast.KindRefused:
		return Errorf(http.StatusConflict, "OperationNotAllowed", "%s", message)
	case holdfast.KindThrottled:
		return Errorf(http.StatusTooManyRequests, "TooManyRequests", "%s", message)
	case holdfast.KindUnavailable:
		return Errorf(http.StatusServiceUnavailable, "ServiceUnavailable", "%s", message)
	case holdfast.KindCorrupt, holdfast.KindWrongKey, holdfast.KindCanceled, holdfast.KindInternal:
		return Errorf(http.StatusInternalServerError, "InternalServerError", "%s", message)
	default:
		return Errorf(http.StatusInternalServerError, "InternalServerError", "%s", message)
	}
}

func notFound(path string) *Error {
	return Errorf(http.StatusNotFound, "InvalidRoute", "No resource or operation is known at the path %s.", path)
}

func resourceNotFound(t *Type, name, group string) *Error {
	return Errorf(http.StatusNotFound, "ResourceNotFound", "The resource %s/%s was not found in resource group %s.", t.Name, name, group)
}

func groupNotFound(group string) *Error {
	return Errorf(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", group)
}

// AsError returns the Error in err's chain, or nil.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
