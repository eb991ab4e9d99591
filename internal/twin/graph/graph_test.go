package graph_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	azfake "github.com/Azure/azure-sdk-for-go/sdk/azcore/fake"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resourcegraph/armresourcegraph"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/graph"
)

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	other        = "99999999-9999-9999-9999-999999999999"
)

// resources: two VMs and a disk in one subscription, a VM in another, a group and a subscription.
func resources(now time.Time) []graph.Resource {
	document := func(text string) map[string]any {
		var d map[string]any
		if err := json.Unmarshal([]byte(text), &d); err != nil {
			panic(err)
		}
		return d
	}
	old := now.Add(-time.Hour)
	vm := func(sub, group, name, rest string) map[string]any {
		return document(fmt.Sprintf(`{"id":"/subscriptions/%s/resourceGroups/%s/providers/Microsoft.Compute/virtualMachines/%s","name":%q,"type":"Microsoft.Compute/virtualMachines","location":"westeurope",%s}`, sub, group, name, name, rest))
	}
	return []graph.Resource{
		{Created: old, Document: vm(subscription, "Shop", "web-1", `"tags":{"env":"prod","Cost Center":"7"},"zones":["1"],"properties":{"hardwareProfile":{"vmSize":"Standard_D2s_v5"},"storageProfile":{"dataDisks":[{"lun":4},{"lun":5}]}}`)},
		{Created: old, Document: vm(subscription, "Shop", "db-1", `"tags":{"env":"Test"},"properties":{"hardwareProfile":{"vmSize":"Standard_E4s_v5"},"storageProfile":{"dataDisks":[]}}`)},
		{Created: now.Add(-10 * time.Second), Document: vm(other, "Lab", "new-1", `"properties":{}`)},
		{Created: old, Document: document(`{"id":"/subscriptions/` + subscription + `/resourceGroups/Shop/providers/Microsoft.Compute/disks/web-1-os","name":"web-1-os","type":"Microsoft.Compute/disks","location":"westeurope","sku":{"name":"Premium_LRS"},"properties":{"diskSizeGB":32,"encrypted":true}}`)},
		{Created: old, Document: document(`{"id":"/subscriptions/` + subscription + `/resourceGroups/Shop","name":"Shop","type":"Microsoft.Resources/resourceGroups","location":"westeurope"}`)},
		{Created: old, Document: document(`{"id":"/subscriptions/` + subscription + `","subscriptionId":"` + subscription + `","displayName":"production"}`)},
	}
}

type fixture struct {
	clock   *clock.Manual
	service *graph.Service
	server  *httptest.Server
	client  *armresourcegraph.Client
}

func start(t *testing.T, pageSize int, wrap func(http.Handler) http.Handler) *fixture {
	t.Helper()
	f := &fixture{clock: clock.NewManual(time.Unix(1_800_000_000, 0))}
	var err error
	f.service, err = graph.New(graph.Config{
		Clock: f.clock, TenantID: "tenant", PageSize: pageSize,
		Resources: func(context.Context) ([]graph.Resource, error) { return resources(f.clock.Now()), nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	handler := f.service.Handler()
	if wrap != nil {
		handler = wrap(handler)
	}
	f.server = httptest.NewTLSServer(handler)
	t.Cleanup(f.server.Close)
	f.client, err = armresourcegraph.NewClient(&azfake.TokenCredential{}, &arm.ClientOptions{ClientOptions: policy.ClientOptions{
		Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: f.server.URL, Audience: "https://management.azure.com"},
		}},
		Transport: f.server.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) query(t *testing.T, query string) []any {
	t.Helper()
	f.service.SetLimits(graph.LimitsOff)
	answer, err := f.client.Resources(t.Context(), armresourcegraph.QueryRequest{Query: &query}, nil)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return answer.Data.([]any)
}

func names(data []any) []string {
	var list []string
	for _, r := range data {
		list = append(list, fmt.Sprint(r.(map[string]any)["name"]))
	}
	return list
}

func TestQuery_WhereFinds(t *testing.T) {
	f := start(t, 0, nil)
	const vms = "Resources | where type =~ 'Microsoft.Compute/virtualMachines' "
	for query, want := range map[string][]string{
		"resources":                              {"web-1-os", "db-1", "web-1", "new-1"},
		vms:                                      {"db-1", "web-1", "new-1"},
		vms + "and tags.env == 'prod'":           {"web-1"},
		vms + "and tags['env'] =~ 'TEST'":        {"db-1"},
		vms + "and tags.env == 'TEST'":           nil,
		vms + "and tags.env != 'prod'":           {"db-1", "new-1"},
		vms + "and tags['Cost Center'] == 7":     {"web-1"},
		vms + "and isnotempty(tags.env)":         {"db-1", "web-1"},
		vms + "and isempty(tags.env)":            {"new-1"},
		vms + "and not(isnull(tags))":            {"db-1", "web-1"},
		vms + "and name in ('web-1', \"new-1\")": {"web-1", "new-1"},
		vms + "and name in~ ('WEB-1')":           {"web-1"},
		vms + "and name !in ('web-1')":           {"db-1", "new-1"},
		vms + "and name !in~ ('WEB-1', 'x')":     {"db-1", "new-1"},
		vms + "and tostring(properties.hardwareProfile.vmSize) startswith 'standard_d'":         {"web-1"},
		vms + "and properties.hardwareProfile.vmSize !startswith 'standard_d'":                  {"db-1", "new-1"},
		vms + "and name contains 'EB'":                                                          {"web-1"},
		vms + "and name !contains 'eb'":                                                         {"db-1", "new-1"},
		vms + "and name has 'web' or name endswith 'OS'":                                        {"web-1-os", "web-1"},
		vms + "and name has 'we'":                                                               nil,
		vms + "and (name == 'db-1' or name == 'web-1') and resourceGroup == 'shop'":             {"db-1", "web-1"},
		vms + "and properties.storageProfile.dataDisks[1].lun == 5":                             {"web-1"},
		vms + "and array_length(properties.storageProfile.dataDisks) == 2":                      {"web-1"},
		vms + "and zones[0] == '1'":                                                             {"web-1"},
		vms + "| where tolower(location) == 'westeurope' // a comment\n| where name>'m'":        {"web-1", "new-1"},
		"resources | where properties.diskSizeGB >= 32 and properties.encrypted == true":        {"web-1-os"},
		"resources | where properties.diskSizeGB < 32":                                          nil,
		"resources | where sku.name == @'Premium_LRS'":                                          {"web-1-os"},
		"ResourceContainers | where type == 'microsoft.resources/subscriptions'":                {"production"},
		"resourcecontainers | where type =~ 'Microsoft.Resources/subscriptions/resourceGroups'": {"Shop"},
		"resources | where name == 'x\\'y'":                                                     nil,
	} {
		if got := names(f.query(t, query)); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", query, got, want)
		}
	}
}

func TestQuery_ShapesRows(t *testing.T) {
	f := start(t, 0, nil)
	const vms = "resources | where type == 'microsoft.compute/virtualmachines' "
	for query, want := range map[string]string{
		vms + "| project name, size = tostring(properties.hardwareProfile.vmSize), tags.env | order by name asc": `[{"name":"db-1","size":"Standard_E4s_v5","tags_env":"Test"},{"name":"new-1","size":"","tags_env":null},{"name":"web-1","size":"Standard_D2s_v5","tags_env":"prod"}]`,
		vms + "| sort by name | project name | take 2":                                                           `[{"name":"web-1"},{"name":"new-1"}]`,
		vms + "| order by tostring(tags.env) asc, name desc | project name":                                      `[{"name":"new-1"},{"name":"db-1"},{"name":"web-1"}]`,
		vms + "| extend env = tolower(tostring(tags.env)) | where env == 'test' | project name, env":             `[{"env":"test","name":"db-1"}]`,
		"resources | summarize count() by type | order by type asc":                                              `[{"count_":1,"type":"microsoft.compute/disks"},{"count_":3,"type":"microsoft.compute/virtualmachines"}]`,
		vms + "| summarize total = count() by subscriptionId, tostring(tags.env) | where tags_env == 'prod'":     `[{"subscriptionId":"` + subscription + `","tags_env":"prod","total":1}]`,
		vms + "| summarize count()": `[{"count_":3}]`,
		vms + "| count":             `[{"Count":3}]`,
		"resources | distinct type, location | sort by type desc":         `[{"location":"westeurope","type":"microsoft.compute/virtualmachines"},{"location":"westeurope","type":"microsoft.compute/disks"}]`,
		"resources | where name == 'none' | count":                        `[{"Count":0}]`,
		"resources | where name == 'none'":                                `[]`,
		vms + "| limit 1 | project n = name, neg = -1.5, yes = true, 'x'": `[{"Column4":"x","n":"db-1","neg":-1.5,"yes":true}]`,
	} {
		var wanted []any
		if err := json.Unmarshal([]byte(want), &wanted); err != nil {
			t.Fatal(err)
		}
		if got := f.query(t, query); !reflect.DeepEqual(got, wanted) {
			t.Errorf("%s: got %v, want %s", query, got, want)
		}
	}
}

func TestQuery_RefusalsNameThePlace(t *testing.T) {
	f := start(t, 0, nil)
	f.service.SetLimits(graph.LimitsOff)
	for _, c := range []struct {
		query        string
		line, column float64
		token        string
	}{
		{"resources | mv-expand tags", 1, 12, "mv"},
		{"machines | where a == 1", 1, 0, "machines"},
		{"resources\n| where name = 'x'", 2, 13, "="},
		{"resources | where nme == 'x'", 1, 18, "nme"},
		{"resources | where Name == 'x'", 1, 18, "Name"},
		{"resources | where name == 'x", 1, 28, ""},
		{"resources | where parse_json(tags) == 1", 1, 18, "parse_json"},
		{"resources | where (name == 'x'", 1, 30, ""},
		{"resources | where name in ()", 1, 27, ")"},
		{"resources | project", 1, 19, ""},
		{"resources | project name | where tags.env == 'x'", 1, 33, "tags"},
		{"resources | limit many", 1, 18, "many"},
		{"resources | summarize dcount(name)", 1, 22, "dcount"},
		{"resources | where name ! 'x'", 1, 23, "!"},
		{"resources § where", 1, 10, "§"},
		{"resources | where " + strings.Repeat("(", 500) + "name" + strings.Repeat(")", 500), 1, 118, "("},
		{"resources" + strings.Repeat(" | count", 101), 1, 812, "count"},
	} {
		_, err := f.client.Resources(t.Context(), armresourcegraph.QueryRequest{Query: &c.query}, nil)
		var refusal *azcore.ResponseError
		if !errors.As(err, &refusal) || refusal.StatusCode != http.StatusBadRequest || refusal.ErrorCode != "BadRequest" {
			t.Errorf("%.50s: got %v", c.query, err)
			continue
		}
		var body struct {
			Error struct{ Details []map[string]any }
		}
		if err := json.NewDecoder(refusal.RawResponse.Body).Decode(&body); err != nil || len(body.Error.Details) != 2 {
			t.Fatalf("%.50s: details %v, %v", c.query, body, err)
		}
		if d := body.Error.Details[1]; d["code"] != "ParserFailure" || d["line"] != c.line || d["characterPositionInLine"] != c.column || d["token"] != c.token {
			t.Errorf("%.50s: got %v", c.query, d)
		}
	}
}

func TestPages_FollowTheSkipToken(t *testing.T) {
	f := start(t, 3, nil)
	query, token := "resources | project id, name | order by name asc", ""
	var got []string
	for page := 0; ; page++ {
		request := armresourcegraph.QueryRequest{Query: &query, Options: &armresourcegraph.QueryRequestOptions{}}
		if token != "" {
			request.Options.SkipToken = &token
		}
		answer, err := f.client.Resources(t.Context(), request, nil)
		if err != nil {
			t.Fatal(err)
		}
		if *answer.TotalRecords != 4 || int(*answer.Count) != len(answer.Data.([]any)) {
			t.Fatalf("totals %d, count %d", *answer.TotalRecords, *answer.Count)
		}
		got = append(got, names(answer.Data.([]any))...)
		if answer.SkipToken == nil {
			if page != 1 {
				t.Fatalf("%d pages, want 2", page+1)
			}
			break
		}
		token = *answer.SkipToken
	}
	if !slices.Equal(got, []string{"db-1", "new-1", "web-1", "web-1-os"}) {
		t.Fatalf("got %v", got)
	}
	foreign := "resources | project id"
	if _, err := f.client.Resources(t.Context(), armresourcegraph.QueryRequest{Query: &foreign, Options: &armresourcegraph.QueryRequestOptions{SkipToken: &token}}, nil); err == nil {
		t.Fatal("the token of another query was accepted")
	}
}

func TestPages_WithoutIDAreTruncatedForGood(t *testing.T) {
	f := start(t, 3, nil)
	query := "resources | project name"
	answer, err := f.client.Resources(t.Context(), armresourcegraph.QueryRequest{Query: &query}, nil)
	if err != nil || answer.SkipToken != nil || *answer.ResultTruncated != armresourcegraph.ResultTruncatedTrue || len(answer.Data.([]any)) != 3 {
		t.Fatalf("got %+v, %v", answer, err)
	}
}

func TestOptions_TopSkipTableAndScope(t *testing.T) {
	f := start(t, 0, nil)
	query, top, skip, format, sub := "resources | project id, name | order by name asc", int32(1), int32(1), armresourcegraph.ResultFormatTable, strings.ToUpper(other)
	answer, err := f.client.Resources(t.Context(), armresourcegraph.QueryRequest{Query: &query, Options: &armresourcegraph.QueryRequestOptions{Top: &top, Skip: &skip, ResultFormat: &format}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	table := answer.Data.(map[string]any)
	if row := table["rows"].([]any)[0].([]any); row[1] != "new-1" || !reflect.DeepEqual(table["columns"].([]any)[1], map[string]any{"name": "name", "type": "string"}) {
		t.Fatalf("got %v", table)
	}
	scoped, err := f.client.Resources(t.Context(), armresourcegraph.QueryRequest{Query: &query, Subscriptions: []*string{&sub}}, nil)
	if err != nil || !slices.Equal(names(scoped.Data.([]any)), []string{"new-1"}) {
		t.Fatalf("got %+v, %v", scoped.Data, err)
	}
	top = 1001
	if _, err := f.client.Resources(t.Context(), armresourcegraph.QueryRequest{Query: &query, Options: &armresourcegraph.QueryRequestOptions{Top: &top}}, nil); err == nil {
		t.Fatal("$top 1001 was accepted")
	}
}

// post asks by hand, to see headers.
func (f *fixture) post(t *testing.T, path, body string) *http.Response {
	t.Helper()
	response, err := f.server.Client().Post(f.server.URL+path, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return response
}

func TestQuota_FifteenQueriesInFiveSeconds(t *testing.T) {
	f := start(t, 0, nil)
	const body = `{"query":"resources | count"}`
	for i := range 15 {
		response := f.post(t, graph.Path+"?api-version=2024-04-01", body)
		if response.StatusCode != 200 || response.Header.Get("x-ms-user-quota-remaining") != fmt.Sprint(14-i) || response.Header.Get("x-ms-user-quota-resets-after") != "00:00:05" {
			t.Fatalf("query %d: %d %v", i+1, response.StatusCode, response.Header)
		}
	}
	if response := f.post(t, graph.Path+"?api-version=2024-04-01", body); response.StatusCode != 429 || response.Header.Get("Retry-After") != "5" {
		t.Fatalf("query 16: %d %v", response.StatusCode, response.Header)
	}
	f.clock.Advance(5 * time.Second)
	if response := f.post(t, graph.Path+"?api-version=2024-04-01", body); response.StatusCode != 200 {
		t.Fatalf("after the window: %d", response.StatusCode)
	}
	f.service.SetLimits(graph.LimitsOff)
	for range 20 {
		if response := f.post(t, graph.Path+"?api-version=2024-04-01", body); response.StatusCode != 200 {
			t.Fatalf("without limits: %d", response.StatusCode)
		}
	}
}

func TestRequest_RefusesWhatItCannotServe(t *testing.T) {
	f := start(t, 0, nil)
	f.service.SetLimits(graph.LimitsOff)
	for _, c := range []struct{ query, body string }{
		{"", `{"query":"resources"}`},
		{"?api-version=1999-01-01", `{"query":"resources"}`},
		{"?api-version=2024-04-01", `{"query":" "}`},
		{"?api-version=2024-04-01", `{"query":"resources","facets":[{}]}`},
		{"?api-version=2024-04-01", `{"query":"resources","managementGroups":["m"]}`},
		{"?api-version=2024-04-01", `{"query":"resources","options":{"resultFormat":"csv"}}`},
		{"?api-version=2024-04-01", `{"query":"resources","options":{"$skipToken":"abc"}}`},
		{"?api-version=2024-04-01", `[`},
	} {
		if response := f.post(t, graph.Path+c.query, c.body); response.StatusCode != http.StatusBadRequest {
			t.Errorf("%s %s: %d", c.query, c.body, response.StatusCode)
		}
	}
}

func TestStaleList_HidesWhatIsYoung(t *testing.T) {
	delay := time.Duration(0)
	f := start(t, 0, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			next.ServeHTTP(w, r.WithContext(fault.With(r.Context(), fault.Decision{Kind: fault.StaleList, Delay: delay})))
		})
	})
	if got := names(f.query(t, "resources | where type has 'virtualmachines'")); !slices.Equal(got, []string{"db-1", "web-1"}) {
		t.Fatalf("got %v", got)
	}
	delay = 5 * time.Second
	if got := names(f.query(t, "resources | where name == 'new-1'")); len(got) != 1 {
		t.Fatalf("ten seconds old, list five seconds late: got %v", got)
	}
}

func TestAuthenticate_RefusalsReachTheCaller(t *testing.T) {
	service, err := graph.New(graph.Config{
		Clock: clock.System{}, Resources: func(context.Context) ([]graph.Resource, error) { return nil, nil },
		Authenticate: func(*http.Request) (string, error) {
			return "", &graph.Error{Status: 401, Code: "ExpiredAuthenticationToken", Message: "late", Header: http.Header{"Www-Authenticate": {"Bearer"}}}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	recorder := httptest.NewRecorder()
	service.Handler().ServeHTTP(recorder, httptest.NewRequest("POST", graph.Path+"?api-version=2024-04-01", nil))
	if recorder.Code != 401 || recorder.Header().Get("WWW-Authenticate") != "Bearer" || !strings.Contains(recorder.Body.String(), "ExpiredAuthenticationToken") {
		t.Fatalf("%d %v %s", recorder.Code, recorder.Header(), recorder.Body)
	}
}

// FuzzQuery: whatever the text, the answer is 200 or 400.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{
		"resources", "resources | where a.b['c'][0] !in~ ('x', 1) and not(tolower(name) has \"y\") // z", "resources | summarize n = count() by type, tags.x | order by n",
		"resources | extend a = 1, b = -2.5 | distinct a | count | limit 3;", "resourcecontainers | project id, @'a''b'", "resources | where isnull(", "resources | where name has ''",
	} {
		f.Add(seed)
	}
	service, err := graph.New(graph.Config{Clock: clock.System{}, Resources: func(context.Context) ([]graph.Resource, error) {
		return resources(time.Unix(0, 0)), nil
	}})
	if err != nil {
		f.Fatal(err)
	}
	service.SetLimits(graph.LimitsOff)
	f.Fuzz(func(t *testing.T, query string) {
		body, err := json.Marshal(map[string]string{"query": query})
		if err != nil {
			t.Skip("not a text that JSON can carry")
		}
		recorder := httptest.NewRecorder()
		service.Handler().ServeHTTP(recorder, httptest.NewRequest("POST", graph.Path+"?api-version=2024-04-01", strings.NewReader(string(body))))
		if recorder.Code != 200 && recorder.Code != 400 {
			t.Fatalf("%d %s", recorder.Code, recorder.Body)
		}
	})
}
