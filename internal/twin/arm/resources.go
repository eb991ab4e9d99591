package arm

import (
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Limits on tags and names (azure.md §4.5).
const (
	tagsMax         = 50
	tagNameCharsMax = 512
	tagTextCharsMax = 256
	nameCharsMax    = 80
)

var resourceName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)

// find returns the resource's document or the platform's 404.
func (s *Server) find(view *state.View, t target) (*state.Document, error) {
	if doc := view.Get(t.id()); doc != nil {
		return doc, nil
	}
	if view.Get(t.groupID()) == nil {
		return nil, groupNotFound(t.group)
	}
	return nil, resourceNotFound(t.kind, t.name(), t.group)
}

// Render gives what clients see of a resource.
func (s *Server) Render(view *state.View, doc *state.Document) state.Object {
	return s.render(view, doc)
}

func (s *Server) render(view *state.View, doc *state.Document) state.Object {
	body := doc.Body
	if kind := s.types[strings.ToLower(TypeOf(doc.ID))]; kind != nil && kind.Render != nil {
		body = kind.Render(view, doc)
	}
	if doc.Hidden.Flag("deleting") {
		body = body.Clone()
		body.Set("properties.provisioningState", "Deleting")
	}
	return body
}

func (s *Server) getResource(call *Call, t target) (Answer, error) {
	doc, err := s.find(call.View, t)
	if err != nil {
		return Answer{}, err
	}
	if call.Method == http.MethodHead {
		return Answer{Status: http.StatusNoContent}, nil
	}
	if t.kind.Get == nil {
		return Answer{Body: s.render(call.View, doc)}, nil
	}
	body, err := t.kind.Get(call, doc)
	return Answer{Body: body}, err
}

func (s *Server) putResource(call *Call, t target) (Answer, error) {
	if call.Body == nil {
		return Answer{}, Errorf(http.StatusBadRequest, "MissingRequestContent", "A PUT needs a request body.")
	}
	group := call.View.Get(t.groupID())
	if group == nil {
		return Answer{}, groupNotFound(t.group)
	}
	if group.Hidden.Flag("deleting") {
		return Answer{}, Errorf(http.StatusConflict, "ResourceGroupBeingDeleted", "The resource group '%s' is being deleted.", t.group)
	}
	existing := call.View.Get(t.id())
	if existing != nil && Busy(existing) {
		return Answer{}, busyError(existing)
	}
	if err := checkEnvelope(call.Body, t, existing); err != nil {
		return Answer{}, err
	}
	id := group.ID + t.id()[len(t.groupID()):]
	if existing != nil {
		id = existing.ID
	}
	return t.kind.Put(call, id, existing)
}

func (s *Server) patchResource(call *Call, t target) (Answer, error) {
	doc, err := s.find(call.View, t)
	if err != nil {
		return Answer{}, err
	}
	if call.Body == nil {
		return Answer{}, Errorf(http.StatusBadRequest, "MissingRequestContent", "A PATCH needs a request body.")
	}
	if Busy(doc) {
		return Answer{}, busyError(doc)
	}
	if err := checkShape(call.Body); err != nil {
		return Answer{}, err
	}
	if t.kind.Patch != nil {
		return t.kind.Patch(call, doc)
	}
	for name := range call.Body {
		if name != "tags" {
			return Answer{}, Errorf(http.StatusBadRequest, "InvalidPatch", "Only the tags of %s can be changed by PATCH.", t.kind.Name).At(name)
		}
	}
	changed := doc.Clone()
	ReplaceTags(changed, call.Body)
	call.Tx.Put(changed)
	return Answer{Body: s.render(call.View, changed)}, nil
}

// ReplaceTags carries out the tags of a PATCH: given, they replace all that were there; absent, nothing changes.
func ReplaceTags(doc *state.Document, patch state.Object) {
	tags, given := patch["tags"]
	if !given {
		return
	}
	if tags == nil {
		tags = map[string]any{}
	}
	doc.Body["tags"] = tags
}

func (s *Server) deleteResource(call *Call, t target) (Answer, error) {
	doc := call.View.Get(t.id())
	if doc == nil {
		if call.View.Get(t.groupID()) == nil {
			return Answer{}, groupNotFound(t.group)
		}
		return Answer{Status: http.StatusNoContent}, nil
	}
	location := doc.Body.Text("location")
	if location == "" {
		location = call.View.Get(t.groupID()).Body.Text("location")
	}
	operation := &Operation{Kind: finishDelete, Resource: doc.ID, Location: location, Namespace: t.kind.namespace(), Path: t.kind.operationPath()}
	if Busy(doc) {
		return s.joinDeletion(call, doc, operation)
	}
	if t.kind.Deletable != nil {
		if err := t.kind.Deletable(call.View, doc); err != nil {
			return Answer{}, err
		}
	}
	if t.kind.Immediate {
		return Answer{}, s.remove(call.Tx, doc)
	}
	marked := doc.Clone()
	if marked.Hidden == nil {
		marked.Hidden = state.Object{}
	}
	marked.Hidden.Set("deleting", true)
	call.Tx.Put(marked)
	return Answer{Operation: operation}, nil
}

// joinDeletion answers a DELETE that was repeated, perhaps because its answer was lost, with the operation that is under
// way; any other operation refuses it.
func (s *Server) joinDeletion(call *Call, doc *state.Document, operation *Operation) (Answer, error) {
	if !doc.Hidden.Flag("deleting") {
		return Answer{}, busyError(doc)
	}
	return Answer{Status: http.StatusAccepted, Header: s.pollingHeaders(call, operation, doc.Hidden.Text("operation"), nil)}, nil
}

// deleted ends a deletion.
func (s *Server) deleted(tx *state.Tx, op *state.Document, _ time.Time) (state.Object, error) {
	doc := tx.Get(op.Hidden.Text("resource"))
	if doc == nil {
		return nil, nil
	}
	if kind := s.types[strings.ToLower(TypeOf(doc.ID))]; kind.Deletable != nil {
		if err := kind.Deletable(tx.View, doc); err != nil {
			return nil, err
		}
	}
	return nil, s.remove(tx, doc)
}

// remove takes a resource away together with the locks on it.
func (s *Server) remove(tx *state.Tx, doc *state.Document) error {
	var extensions []string
	for extension := range tx.Below(doc.Key() + "/providers/") {
		extensions = append(extensions, extension.ID)
	}
	for _, id := range extensions {
		tx.Delete(id)
	}
	if kind := s.types[strings.ToLower(TypeOf(doc.ID))]; kind != nil && kind.Remove != nil {
		return kind.Remove(tx, doc)
	}
	tx.Delete(doc.ID)
	return nil
}

// Remove deletes a resource as an outside administrator would, at once: the type's refusals apply, locks do not. The error
// has KindNotFound for an unknown id.
func (s *Server) Remove(tx *state.Tx, id string) error {
	doc := tx.Get(id)
	if doc == nil {
		return Errorf(http.StatusNotFound, "ResourceNotFound", "The resource %s was not found.", id)
	}
	if kind := s.types[strings.ToLower(TypeOf(doc.ID))]; kind != nil && kind.Deletable != nil {
		if err := kind.Deletable(tx.View, doc); err != nil {
			return err
		}
	}
	return s.remove(tx, doc)
}

// NewDocument makes the document of a new resource: the body with id, name and type set over it.
func (call *Call) NewDocument(id string, body state.Object) *state.Document {
	return NewDocument(id, body, call.Now)
}

// NewDocument is Call.NewDocument for those who have no call, such as estates.
func NewDocument(id string, body state.Object, now time.Time) *state.Document {
	doc := &state.Document{ID: id, Body: body.Clone(), Hidden: state.Object{}, Created: now}
	doc.Body.Set("id", id)
	doc.Body.Set("name", lastSegment(id))
	doc.Body.Set("type", TypeOf(id))
	return doc
}

// Rendered returns what clients see of a document now.
func (call *Call) Rendered(doc *state.Document) state.Object {
	return call.server.render(call.View, doc)
}

func busyError(doc *state.Document) *Error {
	if doc.Hidden.Flag("deleting") {
		return Errorf(http.StatusConflict, "OperationNotAllowed", "The resource %s is being deleted.", doc.ID)
	}
	return Errorf(http.StatusConflict, "AnotherOperationInProgress", "Another operation on the resource %s is in progress. Please retry later.", doc.ID)
}
