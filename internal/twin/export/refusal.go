package export

import (
	"encoding/xml"
	"errors"
	"net/http"
	"strconv"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// refusal is an answer with a storage error code.
type refusal struct {
	status  int
	code    string
	message string
}

// Error implements error.
func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(status int, code, message string) error {
	return &refusal{status: status, code: code, message: message}
}

// The refusals that have one text. Codes and statuses: "Common REST API error codes" and "Blob service error codes" of the
// Blob service reference.
func errAuthenticationFailed() error {
	return refuse(http.StatusForbidden, "AuthenticationFailed",
		"The request could not be authenticated: the signature is wrong, expired or revoked.")
}

func errInvalidHeader(name string) error {
	return refuse(http.StatusBadRequest, "InvalidHeaderValue", "The value of the header "+name+" is not accepted.")
}

func errInvalidQuery(name string) error {
	return refuse(http.StatusBadRequest, "InvalidQueryParameterValue", "The value of the query parameter "+name+" is not accepted.")
}

func errInvalidPageRange() error {
	return refuse(http.StatusRequestedRangeNotSatisfiable, "InvalidPageRange",
		"The page range is not made of whole pages of 512 bytes inside the blob.")
}

// refusalOf maps any error to an answer.
func refusalOf(err error) *refusal {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return r
	case errors.Is(err, vdisk.ErrClosed):
		return &refusal{http.StatusServiceUnavailable, "ServerBusy", "The service is going down."}
	case holdfast.IsKind(err, holdfast.KindNotFound):
		return &refusal{http.StatusNotFound, "BlobNotFound", "The blob does not exist."}
	}
	return &refusal{http.StatusInternalServerError, "InternalError", "The service failed: " + err.Error()}
}

// errorBody is the XML of a storage error.
type errorBody struct {
	XMLName xml.Name `xml:"Error"`
	Code    string   `xml:"Code"`
	Message string   `xml:"Message"`
}

// answerRefusal writes the answer for err; to a HEAD request only the headers, as HTTP has it.
func answerRefusal(w http.ResponseWriter, r *http.Request, err error) {
	refused := refusalOf(err)
	body, encodeErr := xml.Marshal(errorBody{Code: refused.code, Message: refused.message})
	holdfast.Invariant(encodeErr == nil, "a refusal cannot be encoded: %v", encodeErr)
	body = append([]byte(xml.Header), body...)

	header := w.Header()
	for _, name := range []string{"ETag", "Last-Modified", "Accept-Ranges", "Content-MD5", "x-ms-blob-type"} {
		header.Del(name) // they describe content, of which there is none
	}
	if refused.status != http.StatusRequestedRangeNotSatisfiable {
		header.Del("Content-Range")
	}
	header.Set("x-ms-error-code", refused.code)
	header.Set("Content-Type", "application/xml")
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(refused.status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // best effort: a client that went away learns nothing anyway
	}
}
