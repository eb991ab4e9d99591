package keyvault

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/holdfast-backup/holdfast"
)

// refusal is an error as the service says it. The words are ours; codes and inner codes are the service's.
type refusal struct {
	status      int
	code, inner string
	message     string
}

func (r *refusal) Error() string { return r.code + ": " + r.message }

func refuse(status int, code, inner, format string, args ...any) *refusal {
	return &refusal{status: status, code: code, inner: inner, message: fmt.Sprintf(format, args...)}
}

func badParameter(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "BadParameter", "", format, args...)
}

// vaultNotFound stands for a name that does not resolve: on the platform a vault is a host.
func vaultNotFound(name string) error {
	return refuse(http.StatusNotFound, "VaultNotFound", "", "There is no vault %s.", name)
}

func keyNotFound(name, version string) error {
	what := name
	if version != "" {
		what += "/" + version
	}
	return refuse(http.StatusNotFound, "KeyNotFound", "", "The key %s was not found in this vault. A key that was deleted lately may be recoverable.", what)
}

func deletedKeyNotFound(name string) error {
	return refuse(http.StatusNotFound, "KeyNotFound", "", "There is no deleted key %s.", name)
}

func nameTaken(name string) error {
	return refuse(http.StatusConflict, "Conflict", "ObjectIsDeletedButRecoverable",
		"The key %s is deleted and can be recovered; until it is purged its name cannot be used again.", name)
}

func nameBusy(name string) error {
	return refuse(http.StatusConflict, "Conflict", "ObjectIsBeingDeleted", "The key %s is being deleted or recovered.", name)
}

func forbidden(inner, format string, args ...any) error {
	return refuse(http.StatusForbidden, "Forbidden", inner, format, args...)
}

// write answers with an error.
func writeError(w http.ResponseWriter, err error) {
	var r *refusal
	if !errors.As(err, &r) {
		r = refuse(http.StatusInternalServerError, "InternalServerError", "", "%s", err)
	}
	type inner struct {
		Code string `json:"code"`
	}
	var body struct {
		Error struct {
			Code    string `json:"code"`
			Message string `json:"message"`
			Inner   *inner `json:"innererror,omitempty"`
		} `json:"error"`
	}
	body.Error.Code, body.Error.Message = r.code, r.message
	if r.inner != "" {
		body.Error.Inner = &inner{r.inner}
	}
	writeJSON(w, r.status, body)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // best effort: the client may have gone
}

// asOurs turns a refusal into an error for callers in the same process.
func asOurs(err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	kind := holdfast.KindInvalid
	switch r.status {
	case http.StatusNotFound:
		kind = holdfast.KindNotFound
	case http.StatusConflict:
		kind = holdfast.KindConflict
	}
	return holdfast.Errorf(kind, "%s", r.message)
}
