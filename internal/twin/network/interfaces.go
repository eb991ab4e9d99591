package network

import (
	"fmt"
	"iter"
	"net/http"
	"net/netip"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

const (
	configurationsPath = "properties.ipConfigurations"
	reservedFirst      = 4 // the network's address and three of the platform's
)

// interfaces yields the NICs of an id's subscription.
func interfaces(view *state.View, id string) iter.Seq[*state.Document] {
	parts := strings.Split(strings.Trim(state.Key(id), "/"), "/")
	return func(yield func(*state.Document) bool) {
		for doc := range view.Below("/subscriptions/" + parts[1] + "/resourcegroups/") {
			if strings.EqualFold(arm.TypeOf(doc.ID), InterfaceType) && !yield(doc) {
				return
			}
		}
	}
}

func interfacesIn(view *state.View, subnet string) []*state.Document {
	var found []*state.Document
	for nic := range interfaces(view, subnet) {
		for _, configuration := range nic.Body.Objects(configurationsPath) {
			if state.Key(configuration.Text("properties.subnet.id")) == state.Key(subnet) {
				found = append(found, nic)
				break
			}
		}
	}
	return found
}

func putInterface(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	doc := document(call, id, existing)
	doc.Body.Remove("properties.virtualMachine")
	if existing != nil {
		if machine := existing.Body.Object("properties.virtualMachine"); machine != nil {
			doc.Body.Set("properties.virtualMachine", machine.Clone())
		}
	}
	configurations := doc.Body.Objects(configurationsPath)
	if len(configurations) == 0 {
		return arm.Answer{}, invalid("InvalidRequestFormat", "ipConfigurations", "Network interface %s must have at least one IP configuration.", id)
	}
	names := map[string]bool{}
	for i, configuration := range configurations {
		name := strings.ToLower(configuration.Text("name"))
		if name == "" || names[name] {
			return arm.Answer{}, invalid("InvalidRequestFormat", "ipConfigurations", "Every IP configuration of %s needs a name of its own.", id)
		}
		names[name] = true
		if err := arm.CheckName(name); err != nil {
			return arm.Answer{}, err
		}
		if err := Configure(call.View, doc, configuration, existing); err != nil {
			return arm.Answer{}, err
		}
		if configuration.At("properties.primary") == nil {
			configuration.Set("properties.primary", i == 0)
		}
		if err := checkReferences(call, doc, configuration); err != nil {
			return arm.Answer{}, err
		}
	}
	if doc.Body.Text("properties.macAddress") == "" && existing != nil {
		doc.Body.Set("properties.macAddress", existing.Body.Text("properties.macAddress"))
	}
	setMAC(doc)
	return accept(call, doc, existing == nil), nil
}

// setMAC gives a NIC a hardware address of the platform's range, from its resource GUID.
func setMAC(doc *state.Document) {
	if doc.Body.Text("properties.macAddress") != "" {
		return
	}
	guid := strings.ReplaceAll(doc.Body.Text("properties.resourceGuid"), "-", "")
	if len(guid) < 6 {
		return
	}
	guid = strings.ToUpper(guid)
	doc.Body.Set("properties.macAddress", fmt.Sprintf("00-22-48-%s-%s-%s", guid[0:2], guid[2:4], guid[4:6]))
}

func checkReferences(call *arm.Call, doc *state.Document, configuration state.Object) error {
	for _, reference := range []struct{ id, kind string }{
		{doc.Body.Text("properties.networkSecurityGroup.id"), SecurityGroupType},
		{configuration.Text("properties.publicIPAddress.id"), PublicAddressType},
	} {
		if reference.id == "" {
			continue
		}
		target := call.View.Get(reference.id)
		if target == nil || !strings.EqualFold(arm.TypeOf(reference.id), reference.kind) {
			return invalid("InvalidResourceReference", "", "Resource %s referenced by resource %s was not found.", reference.id, doc.ID)
		}
		if target.Body.Text("location") != doc.Body.Text("location") {
			return invalid("InvalidResourceReference", "", "Resource %s referenced by %s is in another location.", reference.id, doc.ID)
		}
	}
	address := configuration.Text("properties.publicIPAddress.id")
	for nic := range interfaces(call.View, doc.ID) {
		for _, other := range nic.Body.Objects(configurationsPath) {
			if address != "" && nic.Key() != doc.Key() && state.Key(other.Text("properties.publicIPAddress.id")) == state.Key(address) {
				return invalid("PublicIPAddressInUse", "", "Public IP address %s is in use by %s.", address, nic.ID)
			}
		}
	}
	return nil
}

// Configure checks one IP configuration of a NIC and gives it an address: the static one it asks for, the one it had, or
// the lowest free one of its subnet.
func Configure(view *state.View, doc *state.Document, configuration state.Object, existing *state.Document) error {
	subnetID := configuration.Text("properties.subnet.id")
	subnet := view.Get(subnetID)
	if subnet == nil || !strings.EqualFold(arm.TypeOf(subnetID), SubnetType) {
		return invalid("InvalidResourceReference", "subnet", "Resource %s referenced by resource %s was not found.", subnetID, doc.ID)
	}
	network := view.Get(parentOf(subnet.ID))
	if network == nil || network.Body.Text("location") != doc.Body.Text("location") {
		return invalid("InvalidResourceReference", "subnet", "The subnet %s is in another location than the network interface.", subnetID)
	}
	prefix, err := netip.ParsePrefix(subnet.Body.Text("properties.addressPrefix"))
	if err != nil {
		return err
	}
	configuration.Set("properties.subnet.id", subnet.ID)
	configuration.Set("id", doc.ID+"/ipConfigurations/"+configuration.Text("name"))
	configuration.Set("properties.provisioningState", "Succeeded")
	if configuration.Text("properties.privateIPAddressVersion") == "" {
		configuration.Set("properties.privateIPAddressVersion", "IPv4")
	}
	method := configuration.Text("properties.privateIPAllocationMethod")
	if method == "" {
		method = "Dynamic"
		configuration.Set("properties.privateIPAllocationMethod", method)
	}
	taken := addressesTaken(view, doc, subnet.ID)
	switch method {
	case "Static":
		return checkStatic(configuration, prefix, taken)
	case "Dynamic":
		return allocate(doc, configuration, prefix, taken, existing)
	default:
		return invalid("InvalidRequestFormat", "privateIPAllocationMethod", "The allocation method must be Static or Dynamic, not '%s'.", method)
	}
}

// addressesTaken finds the addresses of a subnet that other NICs, or this one's other configurations, have.
func addressesTaken(view *state.View, doc *state.Document, subnet string) map[netip.Addr]string {
	taken := map[netip.Addr]string{}
	note := func(nic *state.Document) {
		for _, configuration := range nic.Body.Objects(configurationsPath) {
			address, err := netip.ParseAddr(configuration.Text("properties.privateIPAddress"))
			if err == nil && state.Key(configuration.Text("properties.subnet.id")) == state.Key(subnet) && configuration.Text("id") != "" {
				taken[address] = nic.ID + "#" + configuration.Text("name")
			}
		}
	}
	for _, nic := range interfacesIn(view, subnet) {
		if nic.Key() != doc.Key() {
			note(nic)
		}
	}
	return taken
}

func checkStatic(configuration state.Object, prefix netip.Prefix, taken map[netip.Addr]string) error {
	text := configuration.Text("properties.privateIPAddress")
	address, err := netip.ParseAddr(text)
	if err != nil {
		return invalid("InvalidRequestFormat", "privateIPAddress", "The static private IP address '%s' is not an address.", text)
	}
	if !usable(prefix, address) {
		return invalid("PrivateIPAddressNotInSubnet", "privateIPAddress", "Private static IP address %s does not belong to the usable range of subnet prefix %s.", text, prefix)
	}
	if holder, inUse := taken[address]; inUse {
		return arm.Errorf(http.StatusBadRequest, "PrivateIPAddressInUse", "IP address %s is already allocated to %s.", text, holder).At("privateIPAddress")
	}
	return nil
}

func allocate(doc *state.Document, configuration state.Object, prefix netip.Prefix, taken map[netip.Addr]string, existing *state.Document) error {
	for _, other := range doc.Body.Objects(configurationsPath) { // those of this NIC that have theirs already
		if address, err := netip.ParseAddr(other.Text("properties.privateIPAddress")); err == nil && other.Text("name") != configuration.Text("name") {
			taken[address] = doc.ID
		}
	}
	if existing != nil {
		for _, before := range existing.Body.Objects(configurationsPath) {
			address, err := netip.ParseAddr(before.Text("properties.privateIPAddress"))
			if err == nil && strings.EqualFold(before.Text("name"), configuration.Text("name")) && usable(prefix, address) && taken[address] == "" {
				configuration.Set("properties.privateIPAddress", address.String())
				return nil
			}
		}
	}
	address := prefix.Addr()
	for range reservedFirst {
		address = address.Next()
	}
	for ; usable(prefix, address); address = address.Next() {
		if taken[address] == "" {
			configuration.Set("properties.privateIPAddress", address.String())
			return nil
		}
	}
	return invalid("SubnetIsFull", "subnet", "Subnet %s has no free address.", configuration.Text("properties.subnet.id"))
}

// usable reports whether a subnet hands out an address: not its first four, not its last.
func usable(prefix netip.Prefix, address netip.Addr) bool {
	if !prefix.Contains(address) || !prefix.Contains(address.Next()) {
		return false
	}
	first := prefix.Addr()
	for range reservedFirst {
		if address == first {
			return false
		}
		first = first.Next()
	}
	return true
}

func interfaceDeletable(_ *state.View, doc *state.Document) error {
	if machine := doc.Body.Text("properties.virtualMachine.id"); machine != "" {
		return invalid("NicInUse", "", "Network Interface %s is used by existing resource %s. In order to delete the network interface, it must be dissociated from the resource.", doc.ID, machine)
	}
	return nil
}

// NewInterface completes the document of a new NIC with one address of a subnet, for estates.
func NewInterface(view *state.View, doc *state.Document, subnet string) error {
	configuration := state.Object{"name": "ipconfig1"}
	configuration.Set("properties.subnet.id", subnet)
	configuration.Set("properties.primary", true)
	doc.Body.Set(configurationsPath, []state.Object{configuration})
	doc.Body.Set("properties.provisioningState", "Succeeded")
	doc.Body.Set("properties.resourceGuid", uuid.NewString())
	setMAC(doc)
	return Configure(view, doc, doc.Body.Objects(configurationsPath)[0], nil)
}
