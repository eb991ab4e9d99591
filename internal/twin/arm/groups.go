package arm

import (
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

var groupName = regexp.MustCompile(`^[-\w.()]{0,89}[-\w()]$`)

func (s *Server) groupRoutes() []Route {
	const one = "/subscriptions/{subscription}/resourceGroups/{group}"
	const permission = "Microsoft.Resources/subscriptions/resourceGroups"
	v := resourceVersions()
	return []Route{
		{Method: http.MethodGet, Template: "/subscriptions/{subscription}/resourceGroups", Versions: v, Action: permission + "/read", Serve: listGroups},
		{Method: http.MethodGet, Template: one, Versions: v, Action: permission + "/read", Serve: getGroup},
		{Method: http.MethodHead, Template: one, Versions: v, Action: permission + "/read", Serve: getGroup},
		{Method: http.MethodPut, Template: one, Versions: v, Action: permission + "/write", Write: true, Serve: putGroup},
		{Method: http.MethodPatch, Template: one, Versions: v, Action: permission + "/write", Write: true, Serve: patchGroup},
		{Method: http.MethodDelete, Template: one, Versions: v, Action: permission + "/delete", Write: true, Serve: deleteGroup},
		{Method: http.MethodGet, Template: one + "/resources", Versions: v, Action: permission + "/resources/read", Serve: listGroupResources},
		{Method: http.MethodGet, Template: "/subscriptions/{subscription}/resources", Versions: v, Action: "Microsoft.Resources/subscriptions/resources/read", Serve: listResources},
	}
}

func groupID(call *Call) string {
	return "/subscriptions/" + call.Params["subscription"] + "/resourceGroups/" + call.Params["group"]
}

func listGroups(call *Call) (Answer, error) {
	wanted, err := parseFilter(queryValue(call.Query, "$filter"))
	if err != nil {
		return Answer{}, err
	}
	isGroup := func(doc *state.Document) bool { return len(splitPath(doc.ID)) == 4 && wanted.matches(doc) }
	return call.Page("/subscriptions/"+call.Params["subscription"]+"/resourceGroups/", isGroup, func(doc *state.Document) any { return doc.Body })
}

func getGroup(call *Call) (Answer, error) {
	group := call.View.Get(groupID(call))
	if group == nil {
		return Answer{}, groupNotFound(call.Params["group"])
	}
	if call.Method == http.MethodHead {
		return Answer{Status: http.StatusNoContent}, nil
	}
	return Answer{Body: group.Body}, nil
}

func putGroup(call *Call) (Answer, error) {
	name := call.Params["group"]
	if !groupName.MatchString(name) {
		return Answer{}, Errorf(http.StatusBadRequest, "InvalidResourceGroup", "The resource group name '%s' is invalid: it takes up to 90 letters, digits, '-', '_', '.', '(' and ')' and must not end with a period.", name)
	}
	if call.Body == nil {
		return Answer{}, Errorf(http.StatusBadRequest, "MissingRequestContent", "A PUT needs a request body.")
	}
	location := NormalLocation(call.Body.Text("location"))
	if _, known := FindRegion(location); !known {
		return Answer{}, Errorf(http.StatusBadRequest, "LocationNotAvailableForResourceGroup", "The provided location '%s' is not available for resource group.", location).At("location")
	}
	if err := checkTags(call.Body); err != nil {
		return Answer{}, err
	}
	existing := call.View.Get(groupID(call))
	if existing == nil {
		group := NewGroup(call.Params["subscription"], name, location, call.Body.Object("tags"), call.Now)
		call.Tx.Put(group)
		return Answer{Status: http.StatusCreated, Body: group.Body}, nil
	}
	if Busy(existing) {
		return Answer{}, Errorf(http.StatusConflict, "ResourceGroupBeingDeleted", "The resource group '%s' is being deleted.", name)
	}
	if have := existing.Body.Text("location"); have != location {
		return Answer{}, Errorf(http.StatusConflict, "InvalidResourceGroupLocation", "The resource group '%s' already exists in location '%s'; it cannot be created in '%s'.", name, have, location)
	}
	changed := existing.Clone()
	changed.Body.Remove("tags")
	ReplaceTags(changed, call.Body)
	call.Tx.Put(changed)
	return Answer{Body: changed.Body}, nil
}

// NewGroup makes the document of a resource group.
func NewGroup(subscription, name, location string, tags state.Object, now time.Time) *state.Document {
	id := "/subscriptions/" + subscription + "/resourceGroups/" + name
	body := state.Object{"id": id, "name": name, "type": "Microsoft.Resources/resourceGroups", "location": NormalLocation(location)}
	if tags != nil {
		body["tags"] = map[string]any(tags)
	}
	body.Set("properties.provisioningState", "Succeeded")
	return &state.Document{ID: id, Body: body, Hidden: state.Object{}, Created: now}
}

func patchGroup(call *Call) (Answer, error) {
	group := call.View.Get(groupID(call))
	if group == nil {
		return Answer{}, groupNotFound(call.Params["group"])
	}
	if Busy(group) {
		return Answer{}, busyError(group)
	}
	if err := checkTags(call.Body); err != nil {
		return Answer{}, err
	}
	changed := group.Clone()
	ReplaceTags(changed, call.Body)
	call.Tx.Put(changed)
	return Answer{Body: changed.Body}, nil
}

// deleteGroup accepts a deletion unless something inside is locked; whether the resources can go is found when the
// operation ends, as on the platform.
func deleteGroup(call *Call) (Answer, error) {
	group := call.View.Get(groupID(call))
	if group == nil {
		return Answer{}, groupNotFound(call.Params["group"])
	}
	operation := &Operation{Kind: finishDeleteGroup, Resource: group.ID, Location: group.Body.Text("location"), Namespace: "Microsoft.Resources", Path: "operationresults"}
	if Busy(group) {
		return call.server.joinDeletion(call, group, operation)
	}
	if locks := locksBelow(call.View, group.Key()); len(locks) > 0 {
		return Answer{}, scopeLocked(group.ID, "delete", locks)
	}
	marked := group.Clone()
	marked.Hidden.Set("deleting", true)
	marked.Body.Set("properties.provisioningState", "Deleting")
	call.Tx.Put(marked)
	return Answer{Operation: operation}, nil
}

// groupDeleted removes everything in a group, dependents before what they depend on; if one resource cannot go, all stay.
func (s *Server) groupDeleted(tx *state.Tx, op *state.Document, _ time.Time) (state.Object, error) {
	group := tx.Get(op.Hidden.Text("resource"))
	if group == nil {
		return nil, nil
	}
	var resources []*state.Document
	for doc := range tx.Below(group.Key() + "/providers/") {
		if s.types[strings.ToLower(TypeOf(doc.ID))] != nil {
			resources = append(resources, doc)
		}
	}
	slices.SortStableFunc(resources, func(a, b *state.Document) int { return deletionRank(a.ID) - deletionRank(b.ID) })
	for _, doc := range resources {
		if tx.Get(doc.ID) == nil {
			continue // went with another one
		}
		if err := s.Remove(tx, doc.ID); err != nil {
			blocked := errorOf(err)
			return nil, Errorf(http.StatusConflict, "ResourceGroupDeletionBlocked", "Deletion of resource group '%s' failed as resource %s could not be deleted: %s: %s", lastSegment(group.ID), doc.ID, blocked.Code, blocked.Message)
		}
	}
	tx.Delete(group.ID)
	return nil, nil
}

// deletionRank orders types so that what holds others goes first.
func deletionRank(id string) int {
	order := []string{"microsoft.compute/virtualmachines", "microsoft.network/networkinterfaces", "microsoft.network/publicipaddresses", "microsoft.network/virtualnetworks/subnets"}
	if rank := slices.Index(order, strings.ToLower(TypeOf(id))); rank >= 0 {
		return rank
	}
	return len(order)
}

func listGroupResources(call *Call) (Answer, error) {
	if call.View.Get(groupID(call)) == nil {
		return Answer{}, groupNotFound(call.Params["group"])
	}
	return call.listTracked(groupID(call) + "/providers/")
}

func listResources(call *Call) (Answer, error) {
	return call.listTracked("/subscriptions/" + call.Params["subscription"] + "/resourceGroups/")
}

// listTracked pages the top-level resources below prefix in the short form of the generic list.
func (call *Call) listTracked(prefix string) (Answer, error) {
	wanted, err := parseFilter(queryValue(call.Query, "$filter"))
	if err != nil {
		return Answer{}, err
	}
	expand := queryValue(call.Query, "$expand")
	tracked := func(doc *state.Document) bool {
		kind := call.server.types[strings.ToLower(TypeOf(doc.ID))]
		return kind != nil && !kind.NoLocation && wanted.matches(doc)
	}
	return call.Page(prefix, tracked, func(doc *state.Document) any { return call.short(doc, expand) })
}

func (call *Call) short(doc *state.Document, expand string) state.Object {
	full, short := call.Rendered(doc), state.Object{}
	for _, name := range []string{"id", "name", "type", "location", "tags", "sku", "kind", "managedBy", "zones", "identity", "plan"} {
		if value, ok := full[name]; ok {
			short[name] = value
		}
	}
	for name := range strings.SplitSeq(expand, ",") {
		switch strings.ToLower(strings.TrimSpace(name)) {
		case "createdtime", "changedtime":
			short.Set(strings.TrimSpace(name), doc.Created)
		case "provisioningstate":
			short.Set("provisioningState", full.Text("properties.provisioningState"))
		}
	}
	return short
}
