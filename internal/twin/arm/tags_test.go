package arm_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
)

const tagsAt = "/providers/Microsoft.Resources/tags/default"

// TestTags_OfEveryScope: a subscription, a group and a resource take tags by the same three verbs, and show them as their own.
func TestTags_OfEveryScope(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.makeSecurityGroup("web", `"env":"prod","Owner":"me"`)
	for scope, own := range map[string]string{base: resources, shop: resources, securityGroups + "web": networks} {
		f.want(http.MethodPut, scope+tagsAt+resources, `{"properties":{"tags":{"a":"1","B":"2"}}}`, 200, "")
		merged := f.want(http.MethodPatch, scope+tagsAt+resources, `{"operation":"merge","properties":{"tags":{"b":"3","c":"4"}}}`, 200, "")
		if tags := merged.Object("properties.tags"); len(tags) != 3 || tags["B"] != "3" || tags["c"] != "4" || merged.Text("id") != scope+tagsAt {
			t.Errorf("%s merged: %v", scope, merged)
		}
		f.want(http.MethodPatch, scope+tagsAt+resources, `{"operation":"Delete","properties":{"tags":{"A":"","b":"other","c":"4"}}}`, 200, "")
		left := f.want(http.MethodGet, scope+tagsAt+resources, "", 200, "").Object("properties.tags")
		if len(left) != 1 || left["B"] != "3" {
			t.Errorf("%s after deletion by name, by a wrong value and by the right one: %v", scope, left)
		}
		if shown := f.want(http.MethodGet, scope+own, "", 200, "").Object("tags"); len(shown) != 1 || shown["B"] != "3" {
			t.Errorf("%s shows %v", scope, shown)
		}
		f.want(http.MethodDelete, scope+tagsAt+resources, "", 200, "")
		if left := f.want(http.MethodGet, scope+tagsAt+resources, "", 200, "").Object("properties.tags"); left == nil || len(left) != 0 {
			t.Errorf("%s after deletion: %v", scope, left)
		}
	}
}

func TestTags_Refusals(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.makeSecurityGroup("web", `"env":"prod"`)
	scope := securityGroups + "web" + tagsAt
	f.want(http.MethodPatch, scope+resources, `{"operation":"Paint","properties":{"tags":{"a":"1"}}}`, 400, "InvalidTagsPatchOperation")
	f.want(http.MethodPatch, scope+resources, `{"operation":"Merge"}`, 400, "InvalidRequestContent")
	f.want(http.MethodPut, scope+resources, `{"properties":{"tags":["a"]}}`, 400, "InvalidRequestContent")
	f.want(http.MethodPut, scope+resources, ``, 400, "InvalidRequestContent")
	f.want(http.MethodPut, scope+resources, `{"properties":{"tags":{"a":"`+strings.Repeat("x", 257)+`"}}}`, 400, "InvalidTagNameOrValue")
	f.want(http.MethodPost, scope+resources, `{}`, 405, "MethodNotAllowed")
	f.want(http.MethodGet, securityGroups+"none"+tagsAt+resources, "", 404, "ResourceNotFound")
	f.want(http.MethodGet, strings.TrimSuffix(scope, "default")+"other"+resources, "", 404, "InvalidRoute")
	var many strings.Builder
	many.WriteString(`"t0":"x"`)
	for i := 1; i < 50; i++ {
		many.WriteString(`,"t` + strings.Repeat("y", i) + `":"x"`)
	}
	f.want(http.MethodPut, scope+resources, `{"properties":{"tags":{`+many.String()+`}}}`, 200, "")
	f.want(http.MethodPatch, scope+resources, `{"operation":"Merge","properties":{"tags":{"oneMore":"x"}}}`, 400, "InvalidTags")

	f.want(http.MethodPut, shop+"/providers/Microsoft.Authorization/locks/still"+authority, `{"properties":{"level":"ReadOnly"}}`, 201, "")
	f.want(http.MethodPatch, scope+resources, `{"operation":"Replace","properties":{"tags":{"a":"1"}}}`, 409, "ScopeLocked")
	f.want(http.MethodGet, scope+resources, "", 200, "")

	f.arm.SetPermissions([]arm.Permission{{Actions: []string{"*/read"}}})
	f.want(http.MethodPut, scope+resources, `{"properties":{"tags":{"a":"1"}}}`, 403, "AuthorizationFailed")
}

// TestPath_EmptySegments: the Azure CLI names a resource without parent with an empty segment.
func TestPath_EmptySegments(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	f.makeSecurityGroup("web", `"env":"prod"`)
	doubled := shop + "/providers/Microsoft.Network//networkSecurityGroups/web"
	f.want(http.MethodPut, doubled+"/providers/Microsoft.Authorization/locks/keep"+authority, `{"properties":{"level":"CanNotDelete"}}`, 201, "")
	f.want(http.MethodGet, securityGroups+"web/providers/Microsoft.Authorization/locks/keep"+authority, "", 200, "")
	f.want(http.MethodDelete, doubled+networks, "", 409, "ScopeLocked")
	f.want(http.MethodDelete, doubled+"/providers/Microsoft.Authorization/locks/keep"+authority, "", 200, "")
}

// TestDeployments_AreRefusedByName: clients that make VMs by templates, as `az vm create` does, are told so.
func TestDeployments_AreRefusedByName(t *testing.T) {
	f := newFront(t, nil)
	f.makeGroup()
	for _, scope := range []string{base, shop} {
		f.want(http.MethodPut, scope+"/providers/Microsoft.Resources/deployments/d"+resources, `{"properties":{"mode":"Incremental"}}`, 501, "DeploymentsNotSupported")
		f.want(http.MethodPost, scope+"/providers/Microsoft.Resources/deployments/d/validate"+resources, `{"properties":{}}`, 501, "DeploymentsNotSupported")
	}
}
