package network_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/network"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

const (
	subscription = "11111111-1111-1111-1111-111111111111"
	prefix       = "/subscriptions/" + subscription + "/resourceGroups/shop/providers/Microsoft.Network/"
	version      = "?api-version=2025-05-01"
)

// net is an ARM front with the network types.
type net struct {
	t       *testing.T
	clock   *clock.Manual
	state   *state.Store
	handler http.Handler
}

func newNet(t *testing.T) *net {
	t.Helper()
	n := &net{t: t, clock: clock.NewManual(time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC))}
	var err error
	if n.state, err = state.Open(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.state.Close() })
	server, err := arm.New(arm.Config{State: n.state, Clock: n.clock, Limits: arm.Limits{Off: true}, Subscriptions: []arm.Subscription{{ID: subscription, Name: "s"}}})
	if err != nil {
		t.Fatal(err)
	}
	network.Register(server)
	n.handler = server.Handler()
	n.want(http.MethodPut, "/subscriptions/"+subscription+"/resourceGroups/shop?api-version=2025-04-01", `{"location":"westeurope"}`, 201, "")
	n.want(http.MethodPut, prefix+"virtualNetworks/net"+version, `{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":["10.1.0.0/16"]},"subnets":[{"name":"front","properties":{"addressPrefix":"10.1.1.0/29"}}]}}`, 201, "")
	return n
}

// want sends a request, lets what it began end, and fails unless status and code are those.
func (n *net) want(method, path, body string, status int, code string) state.Object {
	n.t.Helper()
	request := httptest.NewRequest(method, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	n.handler.ServeHTTP(recorder, request)
	n.clock.Advance(time.Minute)
	answer := state.Object{}
	if recorder.Body.Len() > 0 {
		if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil {
			n.t.Fatal(err)
		}
	}
	if recorder.Code != status || answer.Text("error.code") != code {
		n.t.Errorf("%s %s: %d %v, want %d %s", method, path, recorder.Code, answer, status, code)
	}
	return answer
}

func nic(subnet, more string) string {
	return fmt.Sprintf(`{"location":"westeurope","properties":{"ipConfigurations":[{"name":"one","properties":{"subnet":{"id":"%svirtualNetworks/net/subnets/%s"}%s}}]}}`, prefix, subnet, more)
}

func address(answer state.Object) string {
	return answer.Objects("properties.ipConfigurations")[0].Text("properties.privateIPAddress")
}

// TestInterface_Addresses: the platform's own addresses are left out, each is given once, a full subnet refuses, a freed one
// is given again.
func TestInterface_Addresses(t *testing.T) {
	n := newNet(t)
	for i, want := range []string{"10.1.1.4", "10.1.1.5", "10.1.1.6"} {
		if have := address(n.want(http.MethodPut, fmt.Sprintf("%snetworkInterfaces/n%d%s", prefix, i, version), nic("front", ""), 201, "")); have != want {
			t.Errorf("NIC %d has %s, want %s", i, have, want)
		}
	}
	n.want(http.MethodPut, prefix+"networkInterfaces/n3"+version, nic("front", ""), 400, "SubnetIsFull")
	if have := address(n.want(http.MethodPut, prefix+"networkInterfaces/n1"+version, nic("front", ""), 200, "")); have != "10.1.1.5" {
		t.Errorf("a second PUT moved the NIC to %s", have)
	}
	n.want(http.MethodDelete, prefix+"networkInterfaces/n1"+version, "", 202, "")
	if have := address(n.want(http.MethodPut, prefix+"networkInterfaces/n3"+version, nic("front", ""), 201, "")); have != "10.1.1.5" {
		t.Errorf("the freed address is not given again: %s", have)
	}
}

// TestInterface_StaticAddresses: taken, reserved and foreign ones are refused.
func TestInterface_StaticAddresses(t *testing.T) {
	n := newNet(t)
	static := func(ip string) string {
		return nic("FRONT", `,"privateIPAllocationMethod":"Static","privateIPAddress":"`+ip+`"`)
	}
	made := n.want(http.MethodPut, prefix+"networkInterfaces/a"+version, static("10.1.1.5"), 201, "")
	if made.Objects("properties.ipConfigurations")[0].Text("properties.subnet.id") != prefix+"virtualNetworks/net/subnets/front" || made.Text("properties.macAddress") == "" {
		t.Errorf("NIC %v", made)
	}
	n.want(http.MethodPut, prefix+"networkInterfaces/b"+version, static("10.1.1.5"), 400, "PrivateIPAddressInUse")
	for _, ip := range []string{"10.1.1.0", "10.1.1.3", "10.1.1.7", "10.2.0.4"} {
		n.want(http.MethodPut, prefix+"networkInterfaces/b"+version, static(ip), 400, "PrivateIPAddressNotInSubnet")
	}
	n.want(http.MethodPut, prefix+"networkInterfaces/b"+version, static("nonsense"), 400, "InvalidRequestFormat")
	n.want(http.MethodPut, prefix+"networkInterfaces/a"+version, static("10.1.1.5"), 200, "")
	if have := address(n.want(http.MethodPut, prefix+"networkInterfaces/b"+version, nic("front", ""), 201, "")); have != "10.1.1.4" {
		t.Errorf("dynamic beside static: %s", have)
	}
}

// TestInterface_References must lead somewhere, in the same place, and to what is free.
func TestInterface_References(t *testing.T) {
	n := newNet(t)
	n.want(http.MethodPut, prefix+"networkInterfaces/a"+version, nic("none", ""), 400, "InvalidResourceReference")
	n.want(http.MethodPut, prefix+"networkInterfaces/a"+version, strings.Replace(nic("front", ""), "westeurope", "northeurope", 1), 400, "InvalidResourceReference")
	n.want(http.MethodPut, prefix+"networkInterfaces/a"+version, `{"location":"westeurope","properties":{"ipConfigurations":[]}}`, 400, "InvalidRequestFormat")
	public := `,"publicIPAddress":{"id":"` + prefix + `publicIPAddresses/p"}`
	n.want(http.MethodPut, prefix+"networkInterfaces/a"+version, nic("front", public), 400, "InvalidResourceReference")
	if made := n.want(http.MethodPut, prefix+"publicIPAddresses/p"+version, `{"location":"westeurope"}`, 201, ""); made.Text("properties.ipAddress") == "" {
		t.Errorf("public address %v", made)
	}
	n.want(http.MethodPut, prefix+"networkInterfaces/a"+version, nic("front", public), 201, "")
	n.want(http.MethodPut, prefix+"networkInterfaces/b"+version, nic("front", public), 400, "PublicIPAddressInUse")
	n.want(http.MethodDelete, prefix+"publicIPAddresses/p"+version, "", 400, "PublicIPAddressCannotBeDeleted")
	n.want(http.MethodPut, prefix+"networkSecurityGroups/wall"+version, `{"location":"westeurope"}`, 201, "")
	walled := strings.Replace(nic("front", ""), `"properties":{`, `"properties":{"networkSecurityGroup":{"id":"`+prefix+`networkSecurityGroups/wall"},`, 1)
	n.want(http.MethodPut, prefix+"networkInterfaces/b"+version, walled, 201, "")
	n.want(http.MethodDelete, prefix+"networkSecurityGroups/wall"+version, "", 400, "InUseNetworkSecurityGroupCannotBeDeleted")
}

// TestNetwork_SubnetsAsChildren: they show in the network and as resources, must fit, and stay while in use.
func TestNetwork_SubnetsAsChildren(t *testing.T) {
	n := newNet(t)
	subnet := func(cidr string) string { return `{"properties":{"addressPrefix":"` + cidr + `"}}` }
	n.want(http.MethodPut, prefix+"virtualNetworks/net/subnets/back"+version, subnet("10.1.2.0/24"), 201, "")
	n.want(http.MethodPut, prefix+"virtualNetworks/net/subnets/odd"+version, subnet("10.1.2.128/25"), 400, "NetcfgInvalidSubnet")
	n.want(http.MethodPut, prefix+"virtualNetworks/net/subnets/odd"+version, subnet("10.9.0.0/24"), 400, "NetcfgInvalidSubnet")
	n.want(http.MethodPut, prefix+"virtualNetworks/net/subnets/odd"+version, subnet("10.1.0.0"), 400, "InvalidAddressPrefixFormat")
	n.want(http.MethodPut, prefix+"virtualNetworks/none/subnets/odd"+version, subnet("10.1.3.0/24"), 404, "ParentResourceNotFound")
	if whole := n.want(http.MethodGet, prefix+"virtualNetworks/net"+version, "", 200, ""); len(whole.Objects("properties.subnets")) != 2 {
		t.Errorf("network %v", whole)
	}
	if listed := n.want(http.MethodGet, prefix+"virtualNetworks/NET/subnets"+version, "", 200, ""); len(listed.Objects("value")) != 2 {
		t.Errorf("subnets %v", listed)
	}
	if listed := n.want(http.MethodGet, prefix+"virtualNetworks"+version, "", 200, ""); len(listed.Objects("value")) != 1 {
		t.Errorf("networks %v", listed)
	}
	n.want(http.MethodPut, prefix+"networkInterfaces/a"+version, nic("front", ""), 201, "")
	n.want(http.MethodPut, prefix+"virtualNetworks/net/subnets/front"+version, subnet("10.1.4.0/24"), 400, "InUsePrefixCannotBeDeleted")
	n.want(http.MethodDelete, prefix+"virtualNetworks/net/subnets/front"+version, "", 400, "InUseSubnetCannotBeDeleted")
	n.want(http.MethodDelete, prefix+"virtualNetworks/net"+version, "", 400, "InUseSubnetCannotBeDeleted")
	n.want(http.MethodPut, prefix+"virtualNetworks/net"+version, `{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":["10.1.0.0/16"]},"subnets":[]}}`, 400, "InUseSubnetCannotBeDeleted")
	n.want(http.MethodDelete, prefix+"virtualNetworks/net/subnets/back"+version, "", 202, "")
	n.want(http.MethodDelete, prefix+"networkInterfaces/a"+version, "", 202, "")
	n.want(http.MethodDelete, prefix+"virtualNetworks/net"+version, "", 202, "")
	n.want(http.MethodGet, prefix+"virtualNetworks/net/subnets/front"+version, "", 404, "ResourceNotFound")
}

// TestNetwork_ShowsWhatClientsTakeForGranted: the Azure CLI's table of networks fails without these members.
func TestNetwork_ShowsWhatClientsTakeForGranted(t *testing.T) {
	n := newNet(t)
	n.want(http.MethodPut, prefix+"virtualNetworks/bare"+version, `{"location":"westeurope","properties":{"addressSpace":{"addressPrefixes":["10.2.0.0/16"]},"enableDdosProtection":true}}`, 201, "")
	shown := n.want(http.MethodGet, prefix+"virtualNetworks/bare"+version, "", 200, "")
	if subnets, isList := shown.At("properties.subnets").([]any); !isList || len(subnets) != 0 {
		t.Errorf("subnets %v", shown.At("properties.subnets"))
	}
	if shown.At("properties.enableDdosProtection") != true || shown.At("properties.enableVmProtection") != false {
		t.Errorf("protection: %v", shown.Object("properties"))
	}
}
