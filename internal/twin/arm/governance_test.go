package arm_test

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

func (f *front) remove(id string) error {
	return f.state.Update(func(tx *state.Tx) error { return f.arm.Remove(tx, id) })
}

// TestLocks_ForbidByLevelAndScope: each scope, each level, what is forbidden and what is not.
func TestLocks_ForbidByLevelAndScope(t *testing.T) {
	const lock = "/providers/Microsoft.Authorization/locks/keep"
	account := shop + "/providers/Microsoft.Storage/storageAccounts/vault"
	for _, scope := range []string{base, shop, account} {
		for _, level := range []string{"CanNotDelete", "ReadOnly"} {
			f := newFront(t, nil)
			f.makeGroup()
			f.want(http.MethodPut, account+accounts, `{"location":"westeurope"}`, 200, "")
			f.want(http.MethodPut, scope+lock+authority, `{"properties":{"level":"`+level+`","notes":"why"}}`, 201, "")
			f.want(http.MethodDelete, account+accounts, "", 409, "ScopeLocked")
			f.want(http.MethodDelete, shop+resources, "", 409, "ScopeLocked")
			if level == "ReadOnly" {
				f.want(http.MethodPut, account+accounts, `{"location":"westeurope"}`, 409, "ScopeLocked")
				f.want(http.MethodPatch, account+accounts, `{"tags":{}}`, 409, "ScopeLocked")
				f.want(http.MethodPost, account+"/listKeys"+accounts, "", 409, "ScopeLocked")
			} else {
				f.want(http.MethodPut, account+accounts, `{"location":"westeurope"}`, 200, "")
				f.want(http.MethodPatch, account+accounts, `{"tags":{}}`, 200, "")
				f.want(http.MethodPost, account+"/listKeys"+accounts, "", 200, "")
			}
			f.want(http.MethodGet, account+accounts, "", 200, "")
			f.want(http.MethodDelete, scope+lock+authority, "", 200, "")
			f.want(http.MethodDelete, scope+lock+authority, "", 204, "")
			f.want(http.MethodDelete, account+accounts, "", 200, "")
		}
	}
}

// TestLocks_DoNotReachBesides: a lock on one resource leaves its neighbours alone, and goes with its resource.
func TestLocks_DoNotReachBesides(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.makeSecurityGroup("wall", "")
	f.makeSecurityGroup("wall-2", "")
	lock := securityGroups + "wall/providers/Microsoft.Authorization/locks/keep"
	f.want(http.MethodPut, strings.ToLower(lock)+authority, `{"properties":{"level":"canNotDelete"}}`, 201, "")
	f.complete(http.MethodDelete, securityGroups+"wall-2"+networks, "")
	answer := f.want(http.MethodGet, lock+authority, "", 200, "")
	if answer.Text("id") != lock || answer.Text("properties.level") != "CanNotDelete" {
		t.Errorf("lock %v", answer)
	}
	if listed := f.want(http.MethodGet, base+"/providers/Microsoft.Authorization/locks"+authority, "", 200, ""); len(listed.Objects("value")) != 1 {
		t.Errorf("the subscription lists %v", listed)
	}
	if above := f.want(http.MethodGet, securityGroups+"wall/providers/Microsoft.Authorization/locks"+authority+"&$filter=atScope()", "", 200, ""); len(above.Objects("value")) != 1 {
		t.Errorf("at scope %v", above)
	}
	f.want(http.MethodPut, securityGroups+"wall/providers/Microsoft.Authorization/locks/x"+authority, `{"properties":{"level":"Loose"}}`, 400, "LockLevelInvalid")
	f.want(http.MethodPut, securityGroups+"none/providers/Microsoft.Authorization/locks/x"+authority, `{"properties":{"level":"ReadOnly"}}`, 404, "ResourceNotFound")
	f.want(http.MethodGet, securityGroups+"wall/providers/Microsoft.Authorization/locks/none"+authority, "", 404, "LockNotFound")
	if err := f.remove(securityGroups + "wall"); err != nil {
		t.Fatal(err)
	}
	if listed := f.want(http.MethodGet, base+"/providers/Microsoft.Authorization/locks"+authority, "", 200, ""); len(listed.Objects("value")) != 0 {
		t.Errorf("a lock outlived its resource: %v", listed)
	}
}

// TestThrottle_BucketsOfThePlatform: 250 reads at 25 a second, 200 writes at 10, told in headers, refused with a wait.
func TestThrottle_BucketsOfThePlatform(t *testing.T) {
	f := newFront(t, func(c *arm.Config) { c.Limits = arm.Limits{} })
	read := func() (int, http.Header) {
		status, header, _ := f.do(http.MethodGet, base+"/resourceGroups"+resources, "")
		return status, header
	}
	for i := range 250 {
		status, header := read()
		if left := header.Get("x-ms-ratelimit-remaining-subscription-reads"); status != 200 || left != strconv.Itoa(249-i) {
			t.Fatalf("read %d: %d, %s left", i, status, left)
		}
	}
	status, header := read()
	if status != 429 || header.Get("Retry-After") != "1" || header.Get("x-ms-ratelimit-remaining-subscription-reads") != "0" {
		t.Fatalf("read 251: %d %v", status, header)
	}
	f.clock.Advance(time.Second)
	for i := range 25 {
		if status, _ = read(); status != 200 {
			t.Fatalf("read %d after a second: %d", i, status)
		}
	}
	if status, _ = read(); status != 429 {
		t.Fatalf("26 reads in a second: %d", status)
	}
	status, header, _ = f.do(http.MethodPut, shop+resources, `{"location":"westeurope"}`)
	if status != 201 || header.Get("x-ms-ratelimit-remaining-subscription-writes") != "199" || header.Get("x-ms-ratelimit-remaining-subscription-global-writes") != "2999" {
		t.Fatalf("a write is counted apart: %d %v", status, header)
	}
	status, header, _ = f.do(http.MethodGet, "/subscriptions"+resources, "")
	if status != 200 || header.Get("x-ms-ratelimit-remaining-tenant-reads") != "249" {
		t.Fatalf("a tenant read is counted apart: %d %v", status, header)
	}
	f.arm.SetLimits(arm.Limits{Off: true})
	if status, header = read(); status != 200 || header.Get("x-ms-ratelimit-remaining-subscription-reads") != "" {
		t.Fatalf("with limits off: %d %v", status, header)
	}
	f.arm.SetLimits(arm.Limits{Factor: 0.01})
	for i, want := range []int{200, 200, 429} {
		if status, _ = read(); status != want {
			t.Fatalf("scaled down, read %d: %d", i, status)
		}
	}
}

// TestThrottle_PollingOfOneResource: 45 polls, then one every four seconds.
func TestThrottle_PollingOfOneResource(t *testing.T) {
	f := newFront(t, func(c *arm.Config) { c.Limits, c.OperationTime = arm.Limits{}, time.Hour })
	f.makeGroup()
	_, header, _ := f.do(http.MethodPut, securityGroups+"wall"+networks, `{"location":"westeurope"}`)
	poll := header.Get("Azure-AsyncOperation")
	for i := range 45 {
		if status, _, _ := f.do(http.MethodGet, poll, ""); status != 200 {
			t.Fatalf("poll %d: %d", i, status)
		}
	}
	status, header, _ := f.do(http.MethodGet, poll, "")
	if status != 429 || header.Get("Retry-After") != "4" {
		t.Fatalf("poll 46: %d %v", status, header)
	}
}

// TestGroups_LifeOfAGroup: created, changed, conflicting, deleted with what is in it.
func TestGroups_LifeOfAGroup(t *testing.T) {
	f := newFront(t, nil)
	f.want(http.MethodHead, shop+resources, "", 404, "")
	f.makeGroup()
	f.want(http.MethodHead, shop+resources, "", 204, "")
	f.want(http.MethodPut, shop+resources, `{"location":"westeurope","tags":{"a":"b"}}`, 200, "")
	f.want(http.MethodPut, shop+resources, `{"location":"northeurope"}`, 409, "InvalidResourceGroupLocation")
	f.want(http.MethodPut, shop+resources, `{"location":"nowhere"}`, 400, "LocationNotAvailableForResourceGroup")
	f.want(http.MethodPut, base+"/resourceGroups/bad."+resources, `{"location":"westeurope"}`, 400, "InvalidResourceGroup")
	if group := f.want(http.MethodPatch, shop+resources, `{"tags":{"c":"d"}}`, 200, ""); group.Text("tags.c") != "d" || group.At("tags.a") != nil || group.Text("location") != "westeurope" {
		t.Errorf("group %v", group)
	}
	f.makeSecurityGroup("wall", "")
	if listed := f.want(http.MethodGet, base+"/resourceGroups"+resources, "", 200, ""); len(listed.Objects("value")) != 1 {
		t.Errorf("groups %v", listed)
	}
	status, header, _ := f.do(http.MethodDelete, base+"/resourcegroups/SHOP"+resources, "")
	if status != 202 || header.Get("Location") == "" {
		t.Fatalf("DELETE: %d %v", status, header)
	}
	f.want(http.MethodDelete, shop+resources, "", 202, "")
	f.want(http.MethodPut, securityGroups+"late"+networks, `{"location":"westeurope"}`, 409, "ResourceGroupBeingDeleted")
	f.clock.Advance(time.Second)
	f.want(http.MethodGet, shop+resources, "", 404, "ResourceGroupNotFound")
	f.makeGroup()
	f.want(http.MethodGet, securityGroups+"wall"+networks, "", 404, "ResourceNotFound")
}

// TestSubscriptions_LocationsAndProviders: what a client asks before it does anything.
func TestSubscriptions_LocationsAndProviders(t *testing.T) {
	f := newFront(t, nil)
	one := f.want(http.MethodGet, base+"?api-version=2022-12-01", "", 200, "")
	if one.Text("displayName") != "production" || one.Text("state") != "Enabled" || one.Text("tenantId") != "tenant" {
		t.Errorf("subscription %v", one)
	}
	zones := map[string]int{}
	for next := base + "/locations?api-version=2022-12-01"; next != ""; {
		answer := f.want(http.MethodGet, next, "", 200, "")
		for _, location := range answer.Objects("value") {
			mappings := location.Objects("availabilityZoneMappings")
			zones[location.Text("name")] = len(mappings)
			physical := map[string]bool{}
			for i, mapping := range mappings {
				physical[mapping.Text("physicalZone")] = true
				if mapping.Text("logicalZone") != strconv.Itoa(i+1) {
					t.Errorf("mapping %v", mapping)
				}
			}
			if len(physical) != len(mappings) {
				t.Errorf("%s maps two zones to one: %v", location.Text("name"), mappings)
			}
		}
		next = answer.Text("nextLink")
	}
	if len(zones) != 55 || zones["westeurope"] != 3 || zones["westus"] != 0 || zones["uaenorth"] != 3 || zones["ukwest"] != 0 {
		t.Errorf("%d locations: %v", len(zones), zones)
	}
	registered := f.want(http.MethodPost, base+"/providers/microsoft.network/register"+resources, "", 200, "")
	if registered.Text("registrationState") != "Registered" || registered.Text("namespace") != "Microsoft.Network" {
		t.Errorf("provider %v", registered)
	}
	if listed := f.want(http.MethodGet, base+"/providers"+resources, "", 200, ""); len(listed.Objects("value")) != 2 {
		t.Errorf("providers %v", listed)
	}
	f.want(http.MethodGet, base+"/providers/Contoso.Tea"+resources, "", 404, "InvalidResourceNamespace")
	f.want(http.MethodGet, "/tenants"+resources, "", 200, "")
}

// TestTags_FiftyAtMost, by PUT and by PATCH.
func TestTags_FiftyAtMost(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	tags := make([]string, 50)
	for i := range tags {
		tags[i] = fmt.Sprintf(`"t%d":"x"`, i)
	}
	f.makeSecurityGroup("wall", strings.Join(tags, ","))
	over := strings.Join(tags, ",") + `,"t50":"x"`
	f.want(http.MethodPatch, securityGroups+"wall"+networks, `{"tags":{`+over+`}}`, 400, "InvalidTags")
	f.want(http.MethodPut, securityGroups+"wall"+networks, `{"location":"westeurope","tags":{`+over+`}}`, 400, "InvalidTags")
	f.want(http.MethodPatch, securityGroups+"wall"+networks, `{"properties":{}}`, 400, "InvalidPatch")
	f.want(http.MethodPatch, securityGroups+"wall"+networks, `{"tags":{"a":"b"}}`, 200, "")
}
