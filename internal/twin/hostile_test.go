package twin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources/v4"

	"github.com/holdfast-backup/holdfast/internal/twin"
)

// panics collects what net/http logs about handlers that panicked.
type panics struct {
	mu    sync.Mutex
	found []string // guarded by mu
}

func (p *panics) Enabled(context.Context, slog.Level) bool { return true }
func (p *panics) WithAttrs([]slog.Attr) slog.Handler       { return p }
func (p *panics) WithGroup(string) slog.Handler            { return p }

func (p *panics) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "panic") {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.found = append(p.found, r.Message)
	}
	return nil
}

// startWatched starts a twin of which the test fails when a handler panics.
func startWatched(t *testing.T, config twin.Config) *twin.Twin {
	t.Helper()
	watch := &panics{}
	config.Log = slog.New(watch)
	t.Cleanup(func() {
		watch.mu.Lock()
		defer watch.mu.Unlock()
		for _, text := range watch.found[:min(3, len(watch.found))] {
			t.Errorf("of %d panics: %.3000s", len(watch.found), text)
		}
	})
	return start(t, config)
}

// stranger sends requests that no SDK would make.
type stranger struct {
	*customer
	t     *testing.T
	base  string
	token string
}

func (c *customer) stranger(t *testing.T) *stranger {
	t.Helper()
	token, err := c.credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{"https://management.azure.com/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	return &stranger{customer: c, t: t, base: c.config.Endpoints.ResourceManager, token: "Bearer " + token.Token}
}

// send sends a request to ARM and returns status and body.
func (s *stranger) send(method, path string, body []byte, change func(*http.Request)) (int, []byte) {
	s.t.Helper()
	request, err := http.NewRequestWithContext(s.t.Context(), method, s.base+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", s.token)
	if len(body) > 0 {
		request.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(request)
	}
	response, err := s.http.Do(request)
	if err != nil {
		s.t.Errorf("%s %.200s: %v", method, path, err)
		return 0, nil
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Errorf("%s %.200s: %v", method, path, err)
	}
	return response.StatusCode, answer
}

const (
	shop    = "/subscriptions/" + subscription + "/resourceGroups/shop"
	network = shop + "/providers/Microsoft.Network"
	machine = group + "/virtualMachines/web-1"

	diskVersion, machineVersion, networkVersion, resourceVersion = "?api-version=2024-03-02", "?api-version=2024-07-01", "?api-version=2024-05-01", "?api-version=2021-04-01"
)

// wellFormed are requests that work; NEW stands for a name that is not taken.
func wellFormed() []struct{ method, path, body string } {
	const nic = network + `/networkInterfaces/web-1-nic`
	return []struct{ method, path, body string }{
		{"PUT", group + "/disks/NEW" + diskVersion, `{"location":"westeurope","sku":{"name":"Premium_LRS"},"zones":["1"],"tags":{"a":"b"},"properties":{"diskSizeGB":4,"osType":"Linux","hyperVGeneration":"V2","maxShares":1,"networkAccessPolicy":"AllowAll","creationData":{"createOption":"Empty"},"encryption":{"type":"EncryptionAtRestWithPlatformKey"}}}`},
		{"PUT", group + "/disks/NEW" + diskVersion, `{"location":"westeurope","properties":{"creationData":{"createOption":"Upload","uploadSizeBytes":20972032}}}`},
		{"PUT", group + "/disks/NEW" + diskVersion, `{"location":"westeurope","properties":{"creationData":{"createOption":"Copy","sourceResourceId":"` + osDisk + `"}}}`},
		{"PUT", group + "/disks/NEW" + diskVersion, `{"location":"westeurope","sku":{"name":"UltraSSD_LRS"},"zones":["1"],"properties":{"diskSizeGB":4,"diskIOPSReadWrite":100,"creationData":{"createOption":"Empty","logicalSectorSize":512}}}`},
		{"PATCH", group + "/disks/web-1-data" + diskVersion, `{"tags":{"a":"b"},"sku":{"name":"StandardSSD_LRS"},"properties":{"diskSizeGB":1024,"networkAccessPolicy":"AllowAll"}}`},
		{"PUT", group + "/snapshots/NEW" + diskVersion, `{"location":"westeurope","sku":{"name":"Standard_ZRS"},"properties":{"incremental":true,"creationData":{"createOption":"Copy","sourceResourceId":"` + osDisk + `"}}}`},
		{"POST", osDisk + "/beginGetAccess" + diskVersion, `{"access":"Read","durationInSeconds":60,"fileFormat":"VHD","getSecureVMGuestStateSAS":false}`},
		{"PUT", group + "/virtualMachines/NEW" + machineVersion, `{"location":"westeurope","zones":["1"],"identity":{"type":"SystemAssigned"},"plan":{"name":"p"},"properties":{"hardwareProfile":{"vmSize":"Standard_D2s_v5"},"storageProfile":{"osDisk":{"createOption":"Attach","osType":"Linux","deleteOption":"Detach","managedDisk":{"id":"` + osDisk + `"}},"dataDisks":[{"lun":0,"caching":"None","createOption":"Empty","diskSizeGB":4,"name":"x","managedDisk":{"storageAccountType":"Premium_LRS"}}]},"networkProfile":{"networkInterfaces":[{"id":"` + nic + `","properties":{"primary":true,"deleteOption":"Detach"}}]}}}`},
		{"PUT", machine + machineVersion, `{"location":"westeurope","zones":["1"],"properties":{"hardwareProfile":{"vmSize":"Standard_D4s_v5"},"storageProfile":{"osDisk":{"createOption":"Attach","osType":"Linux","managedDisk":{"id":"` + osDisk + `"}},"dataDisks":[{"lun":0,"createOption":"Attach","managedDisk":{"id":"` + group + `/disks/web-1-data"}},{"lun":1,"createOption":"Empty","name":"extra","caching":"None","diskSizeGB":4,"managedDisk":{"storageAccountType":"Premium_LRS"}}]},"networkProfile":{"networkInterfaces":[{"id":"` + nic + `"}]}}}`},
		{"PATCH", machine + machineVersion, `{"tags":{"a":"b"},"identity":{"type":"None"},"properties":{"hardwareProfile":{"vmSize":"Standard_D4s_v5"}}}`},
		{"POST", machine + "/powerOff" + machineVersion, `{"x":1}`},
		{"PUT", nic + networkVersion, `{"location":"westeurope","properties":{"networkSecurityGroup":{"id":"` + network + `/networkSecurityGroups/n"},"ipConfigurations":[{"name":"ipconfig1","properties":{"primary":true,"privateIPAllocationMethod":"Dynamic","privateIPAddress":"10.1.1.4","publicIPAddress":{"id":"x"},"subnet":{"id":"` + network + `/virtualNetworks/shop-net/subnets/front"}}}]}}`},
		{"PUT", network + "/networkInterfaces/NEW" + networkVersion, `{"location":"westeurope","properties":{"ipConfigurations":[{"name":"ipconfig1","properties":{"privateIPAllocationMethod":"Dynamic","subnet":{"id":"` + network + `/virtualNetworks/shop-net/subnets/front"}}}]}}`},
		{"PUT", network + "/virtualNetworks/NEW" + networkVersion, `{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":["10.9.0.0/16"]},"subnets":[{"name":"s","properties":{"addressPrefix":"10.9.1.0/24"}}]}}`},
		{"PUT", network + "/virtualNetworks/shop-net/subnets/NEW" + networkVersion, `{"properties":{"addressPrefix":"10.1.2.0/24"}}`},
		{"PUT", network + "/networkSecurityGroups/NEW" + networkVersion, `{"location":"westeurope","properties":{"securityRules":[{"name":"r","properties":{"priority":100}}]}}`},
		{"PUT", network + "/publicIPAddresses/NEW" + networkVersion, `{"location":"westeurope","sku":{"name":"Standard"},"properties":{"publicIPAllocationMethod":"Static"}}`},
		{"PUT", "/subscriptions/" + subscription + "/resourceGroups/NEW" + resourceVersion, `{"location":"westeurope","tags":{"a":"b"},"managedBy":"x"}`},
		{"PATCH", shop + resourceVersion, `{"tags":{"a":"b"}}`},
		{"PUT", shop + "/providers/Microsoft.Resources/tags/default" + resourceVersion, `{"properties":{"tags":{"a":"b"}}}`},
		{"PATCH", shop + "/providers/Microsoft.Resources/tags/default" + resourceVersion, `{"operation":"Merge","properties":{"tags":{"a":"b"}}}`},
		{"PUT", "/subscriptions/" + subscription + "/resourceGroups/NEW/providers/Microsoft.Authorization/locks/l?api-version=2020-05-01", `{"properties":{"level":"CanNotDelete","notes":"n"}}`},
		{"PUT", shop + "/providers/Microsoft.Storage/storageAccounts/NEW?api-version=2023-01-01", `{"location":"westeurope","kind":"StorageV2","sku":{"name":"Standard_LRS"},"properties":{"accessTier":"Hot"}}`},
		{"POST", "/providers/Microsoft.ResourceGraph/resources?api-version=2021-03-01", `{"query":"resources | project name","subscriptions":["` + subscription + `"],"options":{"$top":10,"$skip":0,"resultFormat":"objectArray","$skipToken":""}}`},
	}
}

// oddValues take the place of every value of a well-formed body in turn.
func oddValues() []any {
	return []any{
		nil, true, json.Number("-1"), json.Number("99999999999999999999"), "", "\u0000\uffff\u202e'\"<>%00../.." + strings.Repeat("é", 2000),
		[]any{map[string]any{}},
		map[string]any{"": nil, "id": []any{}},
	}
}

// mutations calls use with every form of the value in which one part is odd or missing.
func mutations(value any, use func(any)) {
	for _, odd := range oddValues() {
		use(odd)
	}
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			whole := v[name]
			mutations(whole, func(m any) {
				v[name] = m
				use(v)
			})
			delete(v, name)
			use(v)
			v[strings.ToUpper(name)] = whole
			use(v)
			delete(v, strings.ToUpper(name))
			v[name] = whole
		}
	case []any:
		for i, whole := range v {
			mutations(whole, func(m any) {
				v[i] = m
				use(v)
			})
			v[i] = whole
		}
		use(append(slices.Clone(v), v...))
	}
}

// TestHostile_EveryPartOfEveryBody: whatever stands in a request, it is answered by success or by ARM's error body, and the
// state that it leaves can be listed, read by Microsoft's models and opened again.
func TestHostile_EveryPartOfEveryBody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	quick := twin.Options{OperationTime: time.Millisecond, PollAfter: time.Millisecond, SnapshotRateOff: true}
	running := startWatched(t, twin.Config{Dir: dir, EstateFile: writeEstate(t, estateText), Options: quick})
	c := newCustomer(t, dir)
	s := c.stranger(t)
	count, statuses := 0, map[int]int{}
	for _, request := range wellFormed() {
		var body map[string]any
		decoder := json.NewDecoder(strings.NewReader(request.body))
		decoder.UseNumber()
		if err := decoder.Decode(&body); err != nil {
			t.Fatal(err)
		}
		mutations(body, func(mutated any) {
			text, err := json.Marshal(mutated)
			if err != nil {
				t.Fatal(err)
			}
			count++
			path := strings.Replace(request.path, "NEW", fmt.Sprintf("n%d", count), 1)
			status, answer := s.send(request.method, path, text, nil)
			for range 200 { // until the operation of the request before has ended, which would hide what this one does
				if !bytes.Contains(answer, []byte(`"AnotherOperationInProgress"`)) {
					break
				}
				status, answer = s.send(request.method, path, text, nil)
			}
			statuses[status]++
			if status == 0 || status >= 500 || status >= 400 && !isARMError(answer) {
				t.Errorf("%s %s %.300s: %d %.300s", request.method, path, text, status, answer)
			}
		})
	}
	t.Logf("%d requests: %v", count, statuses)
	s.checkSound()
	closeTwin(t, running)
	startWatched(t, twin.Config{Dir: dir})
	s.checkSound()
}

func isARMError(answer []byte) bool {
	var body struct {
		Error struct{ Code, Message string }
	}
	return json.Unmarshal(answer, &body) == nil && body.Error.Code != "" && body.Error.Message != ""
}

var usualID = regexp.MustCompile(`^(/[A-Za-z0-9_.()-]+)+$`)

// checkSound lists everything by every road.
func (s *stranger) checkSound() {
	s.t.Helper()
	compute := s.compute(s.t)
	check := func(what string, err error) {
		s.t.Helper()
		if err != nil {
			s.t.Errorf("%s: %.500v", what, err)
		}
	}
	for pager := compute.NewDisksClient().NewListPager(nil); pager.More(); {
		if _, err := pager.NextPage(s.t.Context()); err != nil {
			check("disks", err)
			break
		}
	}
	for pager := compute.NewSnapshotsClient().NewListPager(nil); pager.More(); {
		if _, err := pager.NextPage(s.t.Context()); err != nil {
			check("snapshots", err)
			break
		}
	}
	for pager := compute.NewVirtualMachinesClient().NewListAllPager(nil); pager.More(); {
		if _, err := pager.NextPage(s.t.Context()); err != nil {
			check("machines", err)
			break
		}
	}
	generic, err := armresources.NewClient(subscription, s.credential, &arm.ClientOptions{ClientOptions: s.options})
	if err != nil {
		s.t.Fatal(err)
	}
	for pager := generic.NewListPager(nil); pager.More(); {
		page, err := pager.NextPage(s.t.Context())
		if err != nil {
			check("resources", err)
			break
		}
		for _, resource := range page.Value {
			if !usualID.MatchString(*resource.ID) {
				s.t.Errorf("a resource is called %q", *resource.ID)
			}
			version := map[string]string{"microsoft.network": "2024-05-01", "microsoft.storage": "2023-01-01"}[strings.ToLower(strings.Split(*resource.Type, "/")[0])]
			if version == "" {
				version = "2024-03-02"
			}
			if _, err := generic.GetByID(s.t.Context(), *resource.ID, version, nil); err != nil {
				check(*resource.ID, err)
			}
		}
	}
	status, answer := s.send(http.MethodPost, "/providers/Microsoft.ResourceGraph/resources?api-version=2021-03-01", []byte(`{"query":"resources | summarize count() by type"}`), nil)
	if status != http.StatusOK {
		s.t.Errorf("Resource Graph: %d %s", status, answer)
	}
	if _, err := s.control.Resources(s.t.Context()); err != nil {
		check("the control API", err)
	}
}
