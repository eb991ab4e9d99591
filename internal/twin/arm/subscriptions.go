package arm

import (
	"fmt"
	"hash/fnv"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Subscription is a subscription to exist.
type Subscription struct{ ID, Name string }

// EnsureSubscription makes the subscription if it does not exist.
func EnsureSubscription(tx *state.Tx, subscription Subscription, now time.Time) {
	id := "/subscriptions/" + subscription.ID
	if tx.Get(id) != nil {
		return
	}
	body := state.Object{"id": id, "subscriptionId": subscription.ID, "displayName": subscription.Name, "state": "Enabled", "authorizationSource": "RoleBased"}
	body.Set("subscriptionPolicies.locationPlacementId", "Public_2014-09-01")
	body.Set("subscriptionPolicies.quotaId", "PayAsYouGo_2014-09-01")
	body.Set("subscriptionPolicies.spendingLimit", "Off")
	tx.Put(&state.Document{ID: id, Body: body, Hidden: state.Object{}, Created: now})
}

func (s *Server) ownRoutes() []Route {
	const one = "/subscriptions/{subscription}"
	v, subscriptions := resourceVersions(), subscriptionVersions()
	const permission = "Microsoft.Resources/subscriptions"
	routes := []Route{
		{Method: http.MethodGet, Template: "/tenants", Versions: subscriptions, Serve: s.listTenants},
		{Method: http.MethodGet, Template: "/subscriptions", Versions: subscriptions, Serve: s.listSubscriptions},
		{Method: http.MethodGet, Template: one, Versions: subscriptions, Action: permission + "/read", Serve: s.getSubscription},
		{Method: http.MethodGet, Template: one + "/locations", Versions: subscriptions, Action: permission + "/locations/read", Serve: listLocations},
		{Method: http.MethodGet, Template: one + "/providers", Versions: v, Action: permission + "/providers/read", Serve: s.listProviders},
		{Method: http.MethodGet, Template: one + "/providers/{namespace}", Versions: v, Action: permission + "/providers/read", Serve: s.getProvider},
		{Method: http.MethodPost, Template: one + "/providers/{namespace}/register", Versions: v, Action: "Microsoft.Resources/register/action", Write: true, Serve: s.registerProvider},
		{Method: http.MethodGet, Template: one + "/providers/{namespace}/locations/{location}/operations/{operation}", Versions: anyVersion(), Serve: s.operationStatus},
		{Method: http.MethodGet, Template: one + "/providers/{namespace}/locations/{location}/DiskOperations/{operation}", Versions: anyVersion(), Serve: s.operationStatus},
		{Method: http.MethodGet, Template: one + "/providers/{namespace}/locations/{location}/operationresults/{operation}", Versions: anyVersion(), Serve: s.operationStatus},
	}
	return append(routes, s.groupRoutes()...)
}

// anyVersion is for polling, where clients repeat the version of the request that began the operation.
func anyVersion() Versions {
	return Versions{Oldest: "2015-01-01", Newest: "2026-12-31", Known: []string{"2026-04-01", "2025-04-01"}}
}

func (s *Server) listTenants(call *Call) (Answer, error) {
	return call.PageOf([]any{map[string]any{"id": "/tenants/" + s.config.TenantID, "tenantId": s.config.TenantID, "tenantCategory": "Home", "displayName": "Twin"}})
}

func (s *Server) listSubscriptions(call *Call) (Answer, error) {
	isSubscription := func(doc *state.Document) bool { return len(splitPath(doc.ID)) == 2 }
	return call.Page("/subscriptions/", isSubscription, func(doc *state.Document) any { return s.subscriptionBody(doc) })
}

func (s *Server) getSubscription(call *Call) (Answer, error) {
	return Answer{Body: s.subscriptionBody(call.View.Get("/subscriptions/" + call.Params["subscription"]))}, nil
}

func (s *Server) subscriptionBody(doc *state.Document) state.Object {
	body := doc.Body.Clone()
	body.Set("tenantId", s.config.TenantID)
	return body
}

func listLocations(call *Call) (Answer, error) {
	value := []any{}
	for _, region := range Regions() {
		value = append(value, locationBody(call.Params["subscription"], region))
	}
	return call.PageOf(value)
}

// locationBody maps logical to physical zones in an order of the subscription's own, as the platform does.
func locationBody(subscription string, region Region) state.Object {
	body := state.Object{
		"id": "/subscriptions/" + subscription + "/locations/" + region.Name, "name": region.Name, "type": "Region",
		"displayName": region.DisplayName, "regionalDisplayName": region.DisplayName,
	}
	body.Set("metadata.regionType", "Physical")
	body.Set("metadata.regionCategory", "Recommended")
	if len(region.Zones) == 0 {
		body.Set("metadata.regionCategory", "Other")
		return body
	}
	sum := fnv.New32a()
	_, _ = sum.Write([]byte(strings.ToLower(subscription))) // a hash does not fail
	shift := int(sum.Sum32() % uint32(len(region.Zones)))
	var mappings []state.Object
	for i, zone := range region.Zones {
		physical := (i+shift)%len(region.Zones) + 1
		mappings = append(mappings, state.Object{"logicalZone": zone, "physicalZone": fmt.Sprintf("%s-az%d", region.Name, physical)})
	}
	body.Set("availabilityZoneMappings", mappings)
	return body
}

// providerBody describes a namespace by the types registered here.
func (s *Server) providerBody(subscription, namespace string) state.Object {
	var types []state.Object
	var canonical string
	for _, name := range slices.Sorted(maps.Keys(s.types)) {
		kind := s.types[name]
		if !strings.EqualFold(kind.namespace(), namespace) {
			continue
		}
		canonical = kind.namespace()
		var locations []string
		for _, region := range Regions() {
			locations = append(locations, region.DisplayName)
		}
		entry := state.Object{}
		entry.Set("resourceType", strings.TrimPrefix(kind.Name, canonical+"/"))
		entry.Set("locations", locations)
		entry.Set("apiVersions", kind.Versions.Known)
		types = append(types, entry)
	}
	if canonical == "" {
		return nil
	}
	body := state.Object{"id": "/subscriptions/" + subscription + "/providers/" + canonical, "namespace": canonical, "registrationState": "Registered", "registrationPolicy": "RegistrationRequired"}
	body.Set("resourceTypes", types)
	return body
}

func (s *Server) listProviders(call *Call) (Answer, error) {
	namespaces := map[string]bool{}
	for _, kind := range s.types {
		namespaces[kind.namespace()] = true
	}
	value := []any{}
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		value = append(value, s.providerBody(call.Params["subscription"], namespace))
	}
	return call.PageOf(value)
}

func (s *Server) getProvider(call *Call) (Answer, error) {
	body := s.providerBody(call.Params["subscription"], call.Params["namespace"])
	if body == nil {
		return Answer{}, Errorf(http.StatusNotFound, "InvalidResourceNamespace", "The resource namespace '%s' is invalid.", call.Params["namespace"])
	}
	return Answer{Body: body}, nil
}

func (s *Server) registerProvider(call *Call) (Answer, error) { return s.getProvider(call) }
