package blobsvc

import (
	"encoding/xml"
	"errors"
	"net/http"
)

// apiError is an answer that refuses: the status, and the code that clients look at.
type apiError struct {
	status  int
	code    string
	message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func refuse(status int, code, message string) error { return &apiError{status, code, message} }

// The refusals that several operations share.
var (
	errContainerNotFound = refuse(http.StatusNotFound, "ContainerNotFound", "The specified container does not exist.")
	errBlobNotFound      = refuse(http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
	errImmutable         = refuse(http.StatusConflict, "BlobImmutableDueToPolicy", "The blob version is protected by an immutability policy or a legal hold.")
	errArchived          = refuse(http.StatusConflict, "BlobArchived", "The blob is in the archive tier and must be rehydrated first.")
	errNotImplemented    = refuse(http.StatusNotImplemented, "NotImplemented", "The twin's blob service does not carry out this operation.")
)

func invalidHeader(name string) error {
	return refuse(http.StatusBadRequest, "InvalidHeaderValue", "The value of header "+name+" is not usable.")
}

func missingHeader(name string) error {
	return refuse(http.StatusBadRequest, "MissingRequiredHeader", "Header "+name+" is required.")
}

func unsupportedHeader(name string) error {
	return refuse(http.StatusBadRequest, "UnsupportedHeader", "The twin's blob service does not carry out what header "+name+" asks for.")
}

func invalidQuery(name string) error {
	return refuse(http.StatusBadRequest, "InvalidQueryParameterValue", "The value of query parameter "+name+" is not usable.")
}

// writeError answers with err. An error that is no apiError is a failure of ours: 500, which clients may retry.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *apiError
	if !errors.As(err, &refusal) {
		refusal = &apiError{http.StatusInternalServerError, "InternalError", err.Error()}
	}
	w.Header().Set("x-ms-error-code", refusal.code)
	if r.Method == http.MethodHead || refusal.status == http.StatusNotModified {
		w.WriteHeader(refusal.status)
		return
	}
	writeXML(w, refusal.status, struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: refusal.code, Message: refusal.message})
}

// writeXML answers with a document. best effort: when the client is gone there is nobody to tell.
func writeXML(w http.ResponseWriter, status int, document any) {
	body, err := xml.Marshal(document)
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = w.Write(append([]byte(xml.Header), body...))
}
