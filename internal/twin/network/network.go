// Package network is the twin's Microsoft.Network, as far as restoring a VM needs it: virtual networks with subnets,
// network interfaces, security groups and public addresses, as ARM resources without any packets.
//
// It promises that addresses are handed out once: a NIC gets a free address of its subnet, a static one that is taken is
// refused, and what is in use cannot be deleted. Like the platform it keeps the first four addresses and the last of every
// subnet for itself. It must never be asked about a VM; compute binds and frees NICs through their documents.
package network

import (
	"net/http"
	"net/netip"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// The resource types.
const (
	VirtualNetworkType = "Microsoft.Network/virtualNetworks"
	SubnetType         = "Microsoft.Network/virtualNetworks/subnets"
	InterfaceType      = "Microsoft.Network/networkInterfaces"
	SecurityGroupType  = "Microsoft.Network/networkSecurityGroups"
	PublicAddressType  = "Microsoft.Network/publicIPAddresses"
)

func versions() arm.Versions {
	return arm.Versions{Oldest: "2018-08-01", Newest: "2026-04-01", Known: []string{"2025-05-01", "2024-10-01", "2024-05-01", "2023-09-01", "2022-07-01", "2021-08-01", "2020-11-01", "2019-11-01"}}
}

// Register adds the types to the ARM server.
func Register(server *arm.Server) {
	server.Register(arm.Type{Name: VirtualNetworkType, Versions: versions(), Put: shaped[networkShape](putNetwork), Deletable: networkDeletable, Remove: removeNetwork, Render: renderNetwork})
	server.Register(arm.Type{Name: SubnetType, Versions: versions(), NoLocation: true, Put: shaped[subnetShape](putSubnet), Deletable: subnetDeletable})
	server.Register(arm.Type{Name: InterfaceType, Versions: versions(), Put: shaped[interfaceShape](putInterface), Deletable: interfaceDeletable})
	server.Register(arm.Type{Name: SecurityGroupType, Versions: versions(), Put: shaped[securityGroupShape](putPlain), Deletable: securityGroupDeletable})
	server.Register(arm.Type{Name: PublicAddressType, Versions: versions(), Put: shaped[publicAddressShape](putPublicAddress), Deletable: publicAddressDeletable})
}

// accept stores a document and begins the operation that ends in Succeeded.
func accept(call *arm.Call, doc *state.Document, isNew bool) arm.Answer {
	status := http.StatusOK
	if isNew {
		status = http.StatusCreated
	}
	doc.Body.Set("properties.provisioningState", "Updating")
	doc.Body.Set("etag", `W/"`+uuid.NewString()+`"`)
	call.Tx.Put(doc)
	location := doc.Body.Text("location")
	if location == "" {
		location = call.View.Get(parentOf(doc.ID)).Body.Text("location")
	}
	return arm.Answer{Status: status, Body: call.Rendered(doc), Operation: arm.Provisioning(doc.ID, location, "Microsoft.Network", "operations")}
}

// document lays a PUT over what exists; a PUT of Microsoft.Network replaces the whole resource.
func document(call *arm.Call, id string, existing *state.Document) *state.Document {
	doc := call.NewDocument(id, call.Body)
	doc.Body.Set("properties.resourceGuid", uuid.NewString())
	if existing != nil {
		doc.Created, doc.Sequence, doc.Hidden = existing.Created, existing.Sequence, existing.Clone().Hidden
		doc.Body.Set("properties.resourceGuid", existing.Body.Text("properties.resourceGuid"))
	}
	return doc
}

func putPlain(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	return accept(call, document(call, id, existing), existing == nil), nil
}

func invalid(code, target, format string, args ...any) *arm.Error {
	return arm.Errorf(http.StatusBadRequest, code, format, args...).At(target)
}

func parentOf(id string) string {
	parts := strings.Split(id, "/")
	return strings.Join(parts[:len(parts)-2], "/")
}

func subnetsOf(view *state.View, network string) []*state.Document {
	var subnets []*state.Document
	for doc := range view.Below(state.Key(network) + "/subnets/") {
		if strings.EqualFold(arm.TypeOf(doc.ID), SubnetType) {
			subnets = append(subnets, doc)
		}
	}
	return subnets
}

// putNetwork makes or changes a network; the subnets it names are made, changed, and those left out removed.
func putNetwork(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	doc := document(call, id, existing)
	prefixes := doc.Body.Texts("properties.addressSpace.addressPrefixes")
	if len(prefixes) == 0 {
		return arm.Answer{}, invalid("InvalidRequestFormat", "addressSpace", "A virtual network needs addressSpace.addressPrefixes.")
	}
	for _, prefix := range prefixes {
		if _, err := netip.ParsePrefix(prefix); err != nil {
			return arm.Answer{}, invalid("InvalidAddressPrefixFormat", "addressSpace", "Address prefix %s is not formatted correctly.", prefix)
		}
	}
	subnets, named := doc.Body.Objects("properties.subnets"), doc.Body.At("properties.subnets") != nil
	doc.Body.Remove("properties.subnets")
	call.Tx.Put(doc)
	kept := map[string]bool{}
	for _, subnet := range subnets {
		name := subnet.Text("name")
		if err := arm.CheckName(name); err != nil {
			return arm.Answer{}, err
		}
		child, err := storeSubnet(call, doc, id+"/subnets/"+name, subnet)
		if err != nil {
			return arm.Answer{}, err
		}
		child.Body.Set("properties.provisioningState", "Succeeded")
		call.Tx.Put(child)
		kept[child.Key()] = true
	}
	for _, present := range subnetsOf(call.View, id) {
		if !named || kept[present.Key()] {
			continue
		}
		if err := subnetDeletable(call.View, present); err != nil {
			return arm.Answer{}, err
		}
		call.Tx.Delete(present.ID)
	}
	return accept(call, doc, existing == nil), nil
}

// renderNetwork shows the subnets, and what clients look up without asking whether it is there, as the Azure CLI's tables do.
func renderNetwork(view *state.View, doc *state.Document) state.Object {
	body := doc.Body.Clone()
	for _, name := range []string{"properties.enableDdosProtection", "properties.enableVmProtection"} {
		if body.At(name) == nil {
			body.Set(name, false)
		}
	}
	subnets := []state.Object{}
	for _, subnet := range subnetsOf(view, doc.ID) {
		subnets = append(subnets, subnet.Body.Clone())
	}
	body.Set("properties.subnets", subnets)
	return body
}

func networkDeletable(view *state.View, doc *state.Document) error {
	for _, subnet := range subnetsOf(view, doc.ID) {
		if err := subnetDeletable(view, subnet); err != nil {
			return err
		}
	}
	return nil
}

func removeNetwork(tx *state.Tx, doc *state.Document) error {
	for _, subnet := range subnetsOf(tx.View, doc.ID) {
		tx.Delete(subnet.ID)
	}
	tx.Delete(doc.ID)
	return nil
}

func putSubnet(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	network := call.View.Get(parentOf(id))
	if network == nil {
		return arm.Answer{}, arm.Errorf(http.StatusNotFound, "ParentResourceNotFound", "The virtual network %s was not found.", parentOf(id))
	}
	doc, err := storeSubnet(call, network, id, call.Body)
	if err != nil {
		return arm.Answer{}, err
	}
	return accept(call, doc, existing == nil), nil
}

// storeSubnet checks a subnet against its network and siblings.
func storeSubnet(call *arm.Call, network *state.Document, id string, body state.Object) (*state.Document, error) {
	text := body.Text("properties.addressPrefix")
	if text == "" {
		if all := body.Texts("properties.addressPrefixes"); len(all) > 0 {
			text = all[0]
		}
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil || prefix != prefix.Masked() {
		return nil, invalid("InvalidAddressPrefixFormat", "addressPrefix", "Address prefix %s of subnet %s is not formatted correctly.", text, id)
	}
	inside := false
	for _, space := range network.Body.Texts("properties.addressSpace.addressPrefixes") {
		outer, err := netip.ParsePrefix(space)
		inside = inside || err == nil && outer.Contains(prefix.Addr()) && outer.Bits() <= prefix.Bits()
	}
	if !inside {
		return nil, invalid("NetcfgInvalidSubnet", "addressPrefix", "Subnet %s (%s) is not within the address space of its virtual network.", id, text)
	}
	for _, sibling := range subnetsOf(call.View, network.ID) {
		other, err := netip.ParsePrefix(sibling.Body.Text("properties.addressPrefix"))
		if err == nil && sibling.Key() != state.Key(id) && other.Overlaps(prefix) {
			return nil, invalid("NetcfgInvalidSubnet", "addressPrefix", "Subnet %s (%s) overlaps with subnet %s.", id, text, sibling.ID)
		}
	}
	doc := call.NewDocument(id, body)
	doc.Body.Set("properties.addressPrefix", prefix.String())
	if existing := call.View.Get(id); existing != nil {
		if existing.Body.Text("properties.addressPrefix") != prefix.String() && len(interfacesIn(call.View, existing.ID)) > 0 {
			return nil, invalid("InUsePrefixCannotBeDeleted", "addressPrefix", "The prefix of subnet %s is in use and cannot be changed.", id)
		}
		doc.ID, doc.Created, doc.Sequence, doc.Hidden = existing.ID, existing.Created, existing.Sequence, existing.Clone().Hidden
	}
	return doc, nil
}

func subnetDeletable(view *state.View, doc *state.Document) error {
	if users := interfacesIn(view, doc.ID); len(users) > 0 {
		return invalid("InUseSubnetCannotBeDeleted", "", "Subnet %s is in use by %s and cannot be deleted.", doc.ID, users[0].ID)
	}
	return nil
}

// securityGroupDeletable and publicAddressDeletable refuse what a NIC still names.
func securityGroupDeletable(view *state.View, doc *state.Document) error {
	for nic := range interfaces(view, doc.ID) {
		if state.Key(nic.Body.Text("properties.networkSecurityGroup.id")) == doc.Key() {
			return invalid("InUseNetworkSecurityGroupCannotBeDeleted", "", "Network security group %s is in use by %s.", doc.ID, nic.ID)
		}
	}
	return nil
}

func publicAddressDeletable(view *state.View, doc *state.Document) error {
	for nic := range interfaces(view, doc.ID) {
		for _, configuration := range nic.Body.Objects(configurationsPath) {
			if state.Key(configuration.Text("properties.publicIPAddress.id")) == doc.Key() {
				return invalid("PublicIPAddressCannotBeDeleted", "", "Public IP address %s is in use by %s.", doc.ID, nic.ID)
			}
		}
	}
	return nil
}

func putPublicAddress(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	doc := document(call, id, existing)
	if doc.Body.Text("sku.name") == "" {
		doc.Body.Set("sku.name", "Standard")
		doc.Body.Set("properties.publicIPAllocationMethod", "Static")
	}
	if existing != nil {
		doc.Body.Set("properties.ipAddress", existing.Body.Text("properties.ipAddress"))
		return accept(call, doc, false), nil
	}
	used := map[string]bool{}
	for other := range call.View.Below("/subscriptions/") {
		if strings.EqualFold(arm.TypeOf(other.ID), PublicAddressType) {
			used[other.Body.Text("properties.ipAddress")] = true
		}
	}
	documentation := netip.MustParsePrefix("198.18.0.0/15") // set aside for benchmarks, RFC 2544: leads nowhere
	for address := documentation.Addr().Next(); documentation.Contains(address); address = address.Next() {
		if !used[address.String()] {
			doc.Body.Set("properties.ipAddress", address.String())
			return accept(call, doc, true), nil
		}
	}
	return arm.Answer{}, arm.Errorf(http.StatusConflict, "PublicIPCountLimitReached", "The twin has no public address left.")
}
