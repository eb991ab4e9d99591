package arm_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// TestVersions_RequiredAndKnown: missing and unknown api-versions are refused by name, every family accepts its own range.
func TestVersions_RequiredAndKnown(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.want(http.MethodGet, shop, "", 400, "MissingApiVersionParameter")
	nic := shop + "/providers/Microsoft.Network/networkInterfaces"
	for _, version := range []string{"2017-01-01", "2099-01-01", "2024-02-30", "latest", "2024"} {
		answer := f.want(http.MethodGet, nic+"?api-version="+version, "", 400, "InvalidApiVersionParameter")
		if !strings.Contains(answer.Text("error.message"), "2025-05-01") {
			t.Errorf("the refusal names no supported version: %v", answer)
		}
	}
	for _, version := range []string{"2018-11-01", "2019-11-01", "2025-05-01", "2020-08-01-preview"} {
		f.want(http.MethodGet, nic+"?API-Version="+version, "", 200, "")
	}
	for _, version := range []string{"2016-06-01", "2019-11-01", "2022-12-01"} {
		f.want(http.MethodGet, "/subscriptions?api-version="+version, "", 200, "")
	}
}

// TestPaths_IgnoreCasingAndKeepTheCreationsOwn.
func TestPaths_IgnoreCasingAndKeepTheCreationsOwn(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.complete(http.MethodPut, base+"/RESOURCEGROUPS/SHOP/PROVIDERS/microsoft.network/NetworkSecurityGroups/Wall-1"+networks, `{"location":"West Europe"}`)
	answer := f.want(http.MethodGet, strings.ToUpper(securityGroups+"wall-1")+networks, "", 200, "")
	if answer.Text("id") != securityGroups+"Wall-1" || answer.Text("name") != "Wall-1" || answer.Text("type") != "Microsoft.Network/networkSecurityGroups" || answer.Text("location") != "westeurope" {
		t.Fatalf("answer %v", answer)
	}
	f.want(http.MethodHead, strings.ToLower(securityGroups+"Wall-1")+networks, "", 204, "")
	f.want(http.MethodHead, securityGroups+"none"+networks, "", 404, "")
}

// TestUnknown_IsRefusedByName.
func TestUnknown_IsRefusedByName(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	other := "/subscriptions/99999999-9999-9999-9999-999999999999"
	f.want(http.MethodGet, "/nowhere"+resources, "", 404, "InvalidRoute")
	f.want(http.MethodGet, other+resources, "", 404, "SubscriptionNotFound")
	f.want(http.MethodGet, other+"/resourceGroups/shop"+resources, "", 404, "SubscriptionNotFound")
	f.want(http.MethodGet, base+"/resourceGroups/none"+resources, "", 404, "ResourceGroupNotFound")
	f.want(http.MethodGet, base+"/resourceGroups/none/providers/Microsoft.Network/networkInterfaces/n"+networks, "", 404, "ResourceGroupNotFound")
	f.want(http.MethodGet, securityGroups+"none"+networks, "", 404, "ResourceNotFound")
	f.want(http.MethodGet, shop+"/providers/Microsoft.Network/teapots/n"+networks, "", 404, "InvalidResourceType")
	f.want(http.MethodGet, shop+"/providers/Contoso.Tea/pots/n"+networks, "", 404, "InvalidResourceNamespace")
	f.want(http.MethodPost, securityGroups+"none/brew"+networks, "", 404, "InvalidRoute")
	f.want(http.MethodPost, "/subscriptions"+resources, "", 405, "MethodNotAllowed")
	f.want(http.MethodDelete, securityGroups+"none"+networks, "", 204, "")
	f.want(http.MethodPut, securityGroups+"x"+networks, "", 400, "MissingRequestContent")
	f.want(http.MethodPut, securityGroups+"x"+networks, "[1]", 400, "InvalidRequestContent")
	f.want(http.MethodPut, securityGroups+"bad%20name"+networks, `{"location":"westeurope"}`, 400, "InvalidResourceName")
	f.header = http.Header{"Content-Type": {"text/plain"}}
	f.want(http.MethodPut, securityGroups+"x"+networks, `{"location":"westeurope"}`, 415, "UnsupportedMediaType")
}

// TestHeaders_OnEveryAnswer: ids and the date, on refusals as well.
func TestHeaders_OnEveryAnswer(t *testing.T) {
	f := newFront(t, nil)
	f.header = http.Header{"X-Ms-Correlation-Request-Id": {"mine"}, "X-Ms-Client-Request-Id": {"theirs"}, "X-Ms-Return-Client-Request-Id": {"true"}}
	seen := map[string]bool{}
	for _, path := range []string{"/subscriptions" + resources, "/nowhere", base + "/resourceGroups/none" + resources} {
		_, header, _ := f.do(http.MethodGet, path, "")
		id := header.Get("x-ms-request-id")
		if id == "" || seen[id] || header.Get("x-ms-correlation-request-id") != "mine" || header.Get("x-ms-client-request-id") != "theirs" || header.Get("Date") != "Sun, 01 Mar 2026 12:00:00 GMT" {
			t.Errorf("%s: %v", path, header)
		}
		seen[id] = true
	}
}

// TestAuthenticate_Challenges: who has no token is told where to get one.
func TestAuthenticate_Challenges(t *testing.T) {
	f := newFront(t, func(c *arm.Config) {
		c.Authenticate = func(r *http.Request) (string, error) {
			switch r.Header.Get("Authorization") {
			case "Bearer good":
				return "principal", nil
			case "Bearer expired":
				return "", arm.Errorf(401, "ExpiredAuthenticationToken", "The access token expired.")
			default:
				return "", errNoToken
			}
		}
	})
	for token, code := range map[string]string{"": "AuthenticationFailed", "Bearer bad": "InvalidAuthenticationToken", "Bearer expired": "ExpiredAuthenticationToken"} {
		f.header = http.Header{"Authorization": {token}}
		if token == "" {
			f.header = nil
		}
		status, header, answer := f.do(http.MethodGet, "/subscriptions"+resources, "")
		if status != 401 || answer.Text("error.code") != code || !strings.HasPrefix(header.Get("WWW-Authenticate"), "Bearer ") {
			t.Errorf("%q: %d %v %v", token, status, answer, header)
		}
	}
	f.header = http.Header{"Authorization": {"Bearer good"}}
	f.want(http.MethodGet, "/subscriptions"+resources, "", 200, "")
}

// TestPermissions_AreEnforcedAndListed.
func TestPermissions_AreEnforcedAndListed(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.makeSecurityGroup("wall", "")
	f.arm.SetPermissions([]arm.Permission{
		{Actions: []string{"*/read"}},
		{Actions: []string{"Microsoft.Network/networkSecurityGroups/*"}, NotActions: []string{"microsoft.network/*/DELETE"}},
	})
	f.want(http.MethodGet, securityGroups+"wall"+networks, "", 200, "")
	f.complete(http.MethodPut, securityGroups+"wall"+networks, `{"location":"westeurope"}`)
	f.want(http.MethodDelete, securityGroups+"wall"+networks, "", 403, "AuthorizationFailed")
	f.want(http.MethodPut, shop+resources, `{"location":"westeurope"}`, 403, "AuthorizationFailed")
	for _, scope := range []string{shop, securityGroups + "wall"} {
		answer := f.want(http.MethodGet, scope+"/providers/Microsoft.Authorization/permissions?api-version=2022-04-01", "", 200, "")
		entries := answer.Objects("value")
		if len(entries) != 2 || entries[1].Texts("notActions")[0] != "microsoft.network/*/DELETE" || entries[0].At("dataActions") == nil {
			t.Errorf("permissions of %s: %v", scope, answer)
		}
	}
	f.want(http.MethodGet, securityGroups+"none/providers/Microsoft.Authorization/permissions?api-version=2022-04-01", "", 404, "ResourceNotFound")
}

// TestLists_PageInOrderWithoutLossOrRepeat, empty ones have a value, too.
func TestLists_PageInOrderWithoutLossOrRepeat(t *testing.T) {
	f := newFront(t, func(c *arm.Config) { c.PageSize = 3 })
	f.makeGroup()
	list := base + "/providers/Microsoft.Network/networkSecurityGroups" + networks
	if answer := f.want(http.MethodGet, list, "", 200, ""); answer.At("value") == nil || len(answer.Objects("value")) != 0 || answer["nextLink"] != nil {
		t.Fatalf("an empty list is %v", answer)
	}
	for i := range 10 {
		f.makeSecurityGroup(fmt.Sprintf("wall-%d", 9-i), "")
	}
	for _, path := range []string{list, shop + "/providers/Microsoft.Network/networkSecurityGroups" + networks, base + "/resources" + resources + "&$filter=resourceType+eq+'microsoft.network/networksecuritygroups'"} {
		var names []string
		pages := 0
		for next := path; next != ""; pages++ {
			answer := f.want(http.MethodGet, next, "", 200, "")
			for _, item := range answer.Objects("value") {
				names = append(names, item.Text("name"))
			}
			next = answer.Text("nextLink")
		}
		if pages != 4 || strings.Join(names, " ") != "wall-0 wall-1 wall-2 wall-3 wall-4 wall-5 wall-6 wall-7 wall-8 wall-9" {
			t.Errorf("%s: %d pages of %v", path, pages, names)
		}
	}
	f.want(http.MethodGet, list+"&$skiptoken=%25%25", "", 400, "InvalidSkipToken")
	f.want(http.MethodGet, base+"/resources"+resources+"&$top=x", "", 400, "InvalidTopParameter")
}

// TestLists_Late: the fault hides what is young in one answer, lateness in all of them; a direct GET sees it.
func TestLists_Late(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.makeSecurityGroup("old", "")
	f.clock.Advance(time.Hour)
	f.makeSecurityGroup("young", "")
	list := shop + "/providers/Microsoft.Network/networkSecurityGroups" + networks
	count := func() int { return len(f.want(http.MethodGet, list, "", 200, "").Objects("value")) }
	f.decision = func(*http.Request) fault.Decision { return fault.Decision{Kind: fault.StaleList} }
	if n := count(); n != 1 {
		t.Errorf("a stale list has %d", n)
	}
	f.want(http.MethodGet, securityGroups+"young"+networks, "", 200, "")
	f.clock.Advance(2 * time.Minute)
	if n := count(); n != 2 {
		t.Errorf("after a minute a stale list has %d", n)
	}
	f.decision = func(*http.Request) fault.Decision {
		return fault.Decision{Kind: fault.StaleList, Delay: 10 * time.Minute}
	}
	if n := count(); n != 1 {
		t.Errorf("a list stale for ten minutes has %d", n)
	}
	f.decision = nil
	f.arm.SetLateness(10 * time.Minute)
	if n := count(); n != 1 {
		t.Errorf("a late list has %d", n)
	}
	f.arm.SetLateness(0)
	if n := count(); n != 2 {
		t.Errorf("a prompt list has %d", n)
	}
}

// TestFilter_OfResources: types, tags, names, or; nonsense is refused.
func TestFilter_OfResources(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.makeSecurityGroup("a", `"env":"prod","team":"web"`)
	f.makeSecurityGroup("b", `"env":"test"`)
	f.makeSecurityGroup("c", `"stage":"prod"`)
	for filter, want := range map[string]string{
		"": "a b c",
		"resourceType eq 'Microsoft.Network/networkSecurityGroups'": "a b c",
		"resourceType eq 'Microsoft.Compute/disks'":                 "",
		"tagName eq 'ENV'":                        "a b",
		"tagName eq 'env' and tagValue eq 'prod'": "a",
		"tagValue eq 'prod'":                      "a c",
		"name eq 'A' or name eq 'c'":              "a c",
		"name ne 'a' and tagName eq 'env'":        "b",
		"location eq 'West Europe'":               "a b c",
		"resourceGroup eq 'SHOP' and name eq 'b'": "b",
	} {
		answer := f.want(http.MethodGet, base+"/resources"+resources+"&$filter="+strings.ReplaceAll(strings.ReplaceAll(filter, " ", "%20"), "'", "%27"), "", 200, "")
		var names []string
		for _, item := range answer.Objects("value") {
			names = append(names, item.Text("name"))
		}
		if have := strings.Join(names, " "); have != want {
			t.Errorf("%q gives %q, want %q", filter, have, want)
		}
	}
	for _, filter := range []string{"name", "name eq", "name eq 'a' xor name eq 'b'", "colour eq 'red'", "name eq 'a' and"} {
		f.want(http.MethodGet, base+"/resources"+resources+"&$filter="+strings.ReplaceAll(filter, " ", "%20"), "", 400, "InvalidFilterInQueryString")
	}
	answer := f.want(http.MethodGet, shop+"/resources"+resources+"&$expand=createdTime,provisioningState", "", 200, "")
	if item := answer.Objects("value")[0]; item.Text("createdTime") == "" || item.Text("provisioningState") != "Succeeded" || item["properties"] != nil {
		t.Errorf("expanded item %v", item)
	}
}
