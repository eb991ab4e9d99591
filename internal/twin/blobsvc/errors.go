package blobsvc

import (
	"encoding/xml"
	"errors"
	"io"
	"net/http"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

// refuse returns an answer that refuses.
func refuse(status int, code, message string) error { return refusal.New(status, code, message) }

// The refusals that several operations share.
var (
	errContainerNotFound = refuse(http.StatusNotFound, "ContainerNotFound", "The specified container does not exist.")
	errBlobNotFound      = refuse(http.StatusNotFound, "BlobNotFound", "The specified blob does not exist.")
	errImmutable         = refuse(http.StatusConflict, "BlobImmutableDueToPolicy", "The blob version is protected by an immutability policy or a legal hold.")
	errArchived          = refuse(http.StatusConflict, "BlobArchived", "The blob is in the archive tier and must be rehydrated first.")
	errMD5Mismatch       = refuse(http.StatusBadRequest, "Md5Mismatch", "The MD5 of the body is not the one in the header.")
	errNotImplemented    = refuse(http.StatusNotImplemented, "NotImplemented", "The twin's blob service does not carry out this operation.")
)

func unsupportedHeader(name string) error {
	return refuse(http.StatusBadRequest, "UnsupportedHeader", "The twin's blob service does not carry out what header "+name+" asks for.")
}

// drainBytesMax is how much of a refused body is read away. Without it the server cuts the connection while the client still
// writes, and the client may see that instead of the answer.
const drainBytesMax = 128 << 20

// writeError answers with err. An error that is no refusal is a failure of ours: 500, which clients may retry.
func writeError(w http.ResponseWriter, r *http.Request, err error) {
	var no *refusal.Error
	if !errors.As(err, &no) {
		no = &refusal.Error{Status: http.StatusInternalServerError, Code: "InternalError", Message: err.Error()}
	}
	if r.Header.Get("Expect") == "" {
		_, _ = io.Copy(io.Discard, io.LimitReader(r.Body, drainBytesMax)) // a client that is gone needs no answer
	}
	w.Header().Set("x-ms-error-code", no.Code)
	if r.Method == http.MethodHead || no.Status == http.StatusNotModified {
		w.WriteHeader(no.Status)
		return
	}
	writeXML(w, no.Status, struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: no.Code, Message: no.Message})
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
