package arm

import (
	"net/http"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// tagsName is the one name of the tags of a scope.
const tagsName = "default"

// tagsPlan serves Microsoft.Resources/tags/default below a subscription, group or resource (REST reference of Resource
// Management, "Tags", api-version 2021-04-01). A lock on the scope holds for its tags.
func tagsPlan(p plan, call *Call, scope string, rest []string) (plan, bool, error) {
	if strings.EqualFold(rest[0], "deployments") {
		return plan{}, true, Errorf(http.StatusNotImplemented, "DeploymentsNotSupported", "The twin does not carry out template deployments. Make the resources one by one.")
	}
	if len(rest) != 2 || !strings.EqualFold(rest[0], "tags") || !strings.EqualFold(rest[1], tagsName) {
		return plan{}, true, notFound(call.Path)
	}
	p.versions, p.lockable, p.write = resourceVersions(), scope, true
	switch call.Method {
	case http.MethodGet:
		p.action, p.write, p.serve = "Microsoft.Resources/tags/read", false, getTags
	case http.MethodPut:
		p.action, p.serve = "Microsoft.Resources/tags/write", putTags
	case http.MethodPatch:
		p.action, p.serve = "Microsoft.Resources/tags/write", patchTags
	case http.MethodDelete:
		p.action, p.serve = "Microsoft.Resources/tags/delete", deleteTags
	default:
		return plan{}, true, Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "Tags allow GET, PUT, PATCH and DELETE.")
	}
	return p, true, nil
}

func getTags(call *Call) (Answer, error) {
	if err := checkScope(call); err != nil {
		return Answer{}, err
	}
	return answerTags(call.View.Get(call.Params["scope"])), nil
}

func answerTags(doc *state.Document) Answer {
	tags := doc.Body.Object("tags")
	if tags == nil {
		tags = state.Object{}
	}
	body := state.Object{"id": doc.ID + "/providers/Microsoft.Resources/tags/" + tagsName, "name": tagsName, "type": "Microsoft.Resources/tags"}
	body.Set("properties.tags", tags)
	return Answer{Body: body}
}

func putTags(call *Call) (Answer, error) {
	given, err := tagsGiven(call)
	if err != nil {
		return Answer{}, err
	}
	return setTags(call, given)
}

// patchTags merges tags into those that are there, replaces these, or deletes the named ones.
func patchTags(call *Call) (Answer, error) {
	given, err := tagsGiven(call)
	if err != nil {
		return Answer{}, err
	}
	if err := checkScope(call); err != nil {
		return Answer{}, err
	}
	tags := call.View.Get(call.Params["scope"]).Body.Object("tags").Clone()
	if tags == nil {
		tags = state.Object{}
	}
	switch operation := call.Body.Text("operation"); {
	case strings.EqualFold(operation, "Replace"):
		tags = given
	case strings.EqualFold(operation, "Merge"):
		for name, value := range given {
			tags[presentName(tags, name)] = value
		}
	case strings.EqualFold(operation, "Delete"):
		for name, value := range given {
			name = presentName(tags, name)
			if value == nil || value == "" || value == tags[name] {
				delete(tags, name)
			}
		}
	default:
		return Answer{}, Errorf(http.StatusBadRequest, "InvalidTagsPatchOperation", "The operation '%s' on tags is not one of Replace, Merge and Delete.", operation).At("operation")
	}
	return setTags(call, tags)
}

func deleteTags(call *Call) (Answer, error) {
	answer, err := setTags(call, state.Object{})
	answer.Body = nil
	return answer, err
}

// tagsGiven reads the tags of a request.
func tagsGiven(call *Call) (state.Object, error) {
	properties := call.Body.Object("properties")
	if properties == nil || properties["tags"] == nil {
		return nil, Errorf(http.StatusBadRequest, "InvalidRequestContent", "The request needs properties.tags.").At("properties.tags")
	}
	if err := checkTags(properties); err != nil {
		return nil, err
	}
	return properties.Object("tags").Clone(), nil
}

// presentName returns the casing that a tag's name has already, since names are compared without regard to it.
func presentName(tags state.Object, name string) string {
	for present := range tags {
		if strings.EqualFold(present, name) {
			return present
		}
	}
	return name
}

// setTags gives the scope these tags and no others.
func setTags(call *Call, tags state.Object) (Answer, error) {
	if err := checkScope(call); err != nil {
		return Answer{}, err
	}
	doc := call.View.Get(call.Params["scope"])
	if Busy(doc) || doc.Hidden.Flag("deleting") {
		return Answer{}, busyError(doc)
	}
	if err := checkTags(state.Object{"tags": map[string]any(tags)}); err != nil {
		return Answer{}, err
	}
	changed := doc.Clone()
	changed.Body["tags"] = map[string]any(tags)
	call.Tx.Put(changed)
	return answerTags(changed), nil
}
