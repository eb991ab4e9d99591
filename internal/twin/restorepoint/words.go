package restorepoint

import (
	"encoding/json"
	"iter"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// decodes reads a body into the SDK's model, which finds members of the wrong type.
func decodes[T any](body state.Object) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, new(T)); err != nil {
		return arm.BadContent(err)
	}
	return nil
}

func invalid(target, format string, args ...any) *arm.Error {
	return arm.Errorf(http.StatusBadRequest, "InvalidParameter", format, args...).At(target)
}

func notAllowed(format string, args ...any) *arm.Error {
	return arm.Errorf(http.StatusConflict, "OperationNotAllowed", format, args...)
}

func newID() string { return uuid.NewString() }

func subscriptionOf(id string) string {
	parts := strings.Split(strings.Trim(id, "/"), "/")
	if len(parts) < 2 {
		return ""
	}
	return parts[1]
}

// parentOf returns the id of the resource that a child belongs to.
func parentOf(id string) string {
	parts := strings.Split(id, "/")
	return strings.Join(parts[:len(parts)-2], "/")
}

// below yields the resources of a type below another one. They are collected first, so that the caller may remove them.
func below(view *state.View, doc *state.Document, resourceType string) iter.Seq[*state.Document] {
	var found []*state.Document
	for child := range view.Below(doc.Key() + "/") {
		if strings.EqualFold(arm.TypeOf(child.ID), resourceType) {
			found = append(found, child)
		}
	}
	return slices.Values(found)
}
