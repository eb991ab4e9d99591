package restore

import (
	"bytes"
	"encoding/json"
	"maps"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// object is a JSON object of the Azure API. Numbers are kept as written.
type object map[string]any

func parse(body json.RawMessage) (object, error) {
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.UseNumber()
	var o object
	if err := decoder.Decode(&o); err != nil {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "a document of the restore point is not JSON")
	}
	return o, nil
}

// at follows names through nested objects; nil when one is missing.
func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, name := range path {
		inner, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = inner[name]
	}
	return v
}

func (o object) text(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

func (o object) list(path ...string) []object {
	items, _ := o.at(path...).([]any)
	var objects []object
	for _, item := range items {
		if inner, ok := item.(map[string]any); ok {
			objects = append(objects, inner)
		}
	}
	return objects
}

// pick copies the named members that are there: an allow-list.
func (o object) pick(names ...string) object {
	picked := object{}
	for _, name := range names {
		if v, ok := o[name]; ok && v != nil {
			picked[name] = v
		}
	}
	return picked
}

func (o object) inner(path ...string) object {
	inner, _ := o.at(path...).(map[string]any)
	return inner
}

// source is what the restore point's documents say about the machine.
type source struct {
	vm     object
	disks  map[string]object // by the key of the disk's id
	nics   []object          // the primary one first
	subnet holdfast.ResourceID
}

// readSource finds the documents. A point that was made from an image has none.
func readSource(point holdfast.Point) (source, error) {
	s := source{disks: map[string]object{}}
	for _, d := range point.Documents {
		o, err := parse(d.Body)
		if err != nil {
			return source{}, err
		}
		switch {
		case d.ID.Equal(point.VM):
			s.vm = o
		case strings.EqualFold(d.ID.Type(), "Microsoft.Compute/disks"):
			s.disks[d.ID.Key()] = o
		case strings.EqualFold(d.ID.Type(), "Microsoft.Network/networkInterfaces"):
			s.nics = append(s.nics, o)
		}
	}
	if s.vm == nil {
		return source{}, holdfast.Errorf(holdfast.KindInvalid, "restore point %s does not describe a virtual machine", point.ID).WithField("point").
			WithHint("get its disks with `holdfast repo export`")
	}
	for i, nic := range s.nics {
		if primary, _ := nic.at("properties", "primary").(bool); primary && i > 0 {
			s.nics[0], s.nics[i] = s.nics[i], s.nics[0]
		}
	}
	if len(s.nics) > 0 {
		if configurations := s.nics[0].list("properties", "ipConfigurations"); len(configurations) > 0 {
			s.subnet = holdfast.ResourceID(configurations[0].text("properties", "subnet", "id"))
		}
	}
	return s, nil
}

func (s source) zone() string { return firstText(s.vm["zones"]) }

func firstText(v any) string {
	list, _ := v.([]any)
	if len(list) == 0 {
		return ""
	}
	text, _ := list[0].(string)
	return text
}

// tagsMax is what Azure allows; one is ours.
const tagsMax = 50

// tags carries over the tags of a resource, less our own.
func (p *planner) tags(of object) map[string]any {
	tags := map[string]any{}
	for name, v := range of.inner("tags") {
		if name == tagRestore {
			continue
		}
		if len(tags) == tagsMax-1 {
			p.note("%s has %d tags, and one place is needed: not all are carried over", of.text("name"), tagsMax)
			break
		}
		tags[name] = v
	}
	return tags
}

// withoutCaching is the size from which Azure refuses host caching.
const withoutCaching = 4096 << 30

// disks describes the disks to be created. zone is the machine's; "" leaves each disk where the source's was.
func (p *planner) disks(luns []holdfast.LUN, zone string) ([]PlannedDisk, error) {
	var planned []PlannedDisk
	for _, lun := range luns {
		d, found := p.point.Disk(lun)
		if !found {
			return nil, holdfast.Errorf(holdfast.KindNotFound, "restore point %s has no disk %q", p.point.ID, lun).WithField("disk").
				WithHint("it has: %s", allLUNs(p.point))
		}
		if d.SizeBytes%(1<<20) != 0 {
			return nil, holdfast.Errorf(holdfast.KindInvalid, "the disk %s has %d bytes; Azure takes whole MiB", d.Name, d.SizeBytes).
				WithHint("export it with `holdfast repo export`")
		}
		body, err := json.Marshal(p.disk(d, zone))
		if err != nil {
			return nil, holdfast.Wrap(holdfast.KindInternal, err, "the disk %s cannot be described", d.Name)
		}
		planned = append(planned, PlannedDisk{
			Step: Step{ID: p.id("Microsoft.Compute/disks", diskName(p.name, lun)), Body: body},
			LUN:  lun, SizeBytes: d.SizeBytes, SKU: d.SKU, Root: d.Root,
		})
	}
	return planned, nil
}

func diskName(name string, lun holdfast.LUN) string {
	if lun == holdfast.OSDisk {
		return name + "-os"
	}
	return name + "-lun" + string(lun)
}

func (p *planner) id(resourceType, name string) holdfast.ResourceID {
	return holdfast.NewResourceID(p.group.Subscription(), p.group.ResourceGroup(), resourceType, name)
}

// disk is the body of one disk that is created for upload: the image and a footer of 512 bytes.
func (p *planner) disk(d holdfast.PointDisk, zone string) object {
	was := p.source.disks[d.ID.Key()]
	creation := object{"createOption": "Upload", "uploadSizeBytes": d.SizeBytes + 512}
	properties := was.inner("properties").pick("osType", "hyperVGeneration", "purchasePlan", "supportedCapabilities",
		"encryptionSettingsCollection", "tier", "burstingEnabled")
	if isUltra(d.SKU) {
		creation["logicalSectorSize"] = 512
		maps.Copy(properties, was.inner("properties").pick("diskIOPSReadWrite", "diskMBpsReadWrite"))
	}
	if strings.EqualFold(was.text("properties", "securityProfile", "securityType"), "TrustedLaunch") {
		properties["securityProfile"] = object{"securityType": "TrustedLaunch"}
		p.note("the disk %s gets a new virtual TPM; encryption that is bound to the old one asks for its recovery key", d.Name)
	}
	if strings.EqualFold(was.text("properties", "networkAccessPolicy"), "AllowPrivate") {
		maps.Copy(properties, was.inner("properties").pick("networkAccessPolicy", "diskAccessId", "publicNetworkAccess"))
	}
	if !p.moved {
		if encryption := was.inner("properties", "encryption"); encryption != nil {
			properties["encryption"] = encryption.pick("type", "diskEncryptionSetId")
		}
	} else if was.text("properties", "encryption", "diskEncryptionSetId") != "" {
		p.note("the disk %s is no longer encrypted with a key of its own: its encryption set is in another region", d.Name)
	}
	properties["creationData"] = creation
	body := object{"location": p.location, "sku": object{"name": d.SKU}, "tags": p.tags(was), "properties": properties}
	if diskZone := p.diskZone(was, zone); diskZone != "" {
		body["zones"] = []string{diskZone}
	}
	return body
}

// diskZone returns where a disk goes: a disk in a zone follows its machine, and alone it stays where it was.
func (p *planner) diskZone(was object, machineZone string) string {
	own := firstText(was["zones"])
	if own == "" || p.alone {
		return own
	}
	return machineZone
}

// nic is the network interface: a new address in the subnet.
func (p *planner) nic(subnet holdfast.ResourceID, size machine.Size) (*Step, error) {
	was := object{}
	if len(p.source.nics) > 0 {
		was = p.source.nics[0]
	}
	properties := object{"ipConfigurations": []object{{
		"name":       "ipconfig1",
		"properties": object{"primary": true, "privateIPAllocationMethod": "Dynamic", "subnet": object{"id": string(subnet)}},
	}}}
	if strings.EqualFold(size.Name, p.source.vm.text("properties", "hardwareProfile", "vmSize")) {
		maps.Copy(properties, was.inner("properties").pick("enableAcceleratedNetworking"))
	}
	if group := was.text("properties", "networkSecurityGroup", "id"); group != "" && !p.moved {
		properties["networkSecurityGroup"] = object{"id": group}
	}
	p.noteNetwork(was)
	body, err := json.Marshal(object{"location": p.location, "tags": p.tags(was), "properties": properties})
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "the network interface cannot be described")
	}
	return &Step{ID: p.id("Microsoft.Network/networkInterfaces", p.name+"-nic"), Body: body}, nil
}

// noteNetwork tells what of the network is not as it was.
func (p *planner) noteNetwork(was object) {
	if len(p.source.nics) > 1 {
		p.note("the machine had %d network interfaces; the first one is restored", len(p.source.nics))
	}
	configurations := was.list("properties", "ipConfigurations")
	if len(configurations) > 1 {
		p.note("the network interface had %d addresses; one is restored", len(configurations))
	}
	for _, c := range configurations {
		if strings.EqualFold(c.text("properties", "privateIPAllocationMethod"), "Static") {
			p.note("the fixed address %s is not kept; the machine gets a new one", c.text("properties", "privateIPAddress"))
		}
		for _, lost := range []struct{ name, what string }{
			{"publicIPAddress", "public address"},
			{"loadBalancerBackendAddressPools", "membership in load balancers"},
			{"applicationGatewayBackendAddressPools", "membership in application gateways"},
			{"applicationSecurityGroups", "membership in application security groups"},
		} {
			if c.at("properties", lost.name) != nil {
				p.note("the %s of the network interface is not carried over", lost.what)
			}
		}
	}
	if p.moved && was.text("properties", "networkSecurityGroup", "id") != "" {
		p.note("the network security group stays in the old region; assign one here")
	}
}

// machine is the body of the virtual machine, with its disks attached and therefore without an osProfile.
func (p *planner) machine(plan Plan, size machine.Size, zone string) (*Step, error) {
	was := p.source.vm
	hardware := object{"vmSize": size.Name}
	if strings.EqualFold(size.Name, was.text("properties", "hardwareProfile", "vmSize")) {
		maps.Copy(hardware, was.inner("properties", "hardwareProfile").pick("vmSizeProperties"))
	}
	properties := was.inner("properties").pick("licenseType", "securityProfile", "additionalCapabilities", "diagnosticsProfile", "priority",
		"evictionPolicy", "billingProfile", "userData", "scheduledEventsProfile", "scheduledEventsPolicy")
	properties["hardwareProfile"] = hardware
	properties["storageProfile"] = p.storage(plan)
	properties["networkProfile"] = object{"networkInterfaces": []object{{
		"id": string(plan.NIC.ID), "properties": object{"primary": true, "deleteOption": p.nicDeleteOption()},
	}}}
	body := was.pick("plan")
	body["location"], body["tags"], body["properties"] = p.location, p.tags(was), properties
	if zone != "" {
		body["zones"] = []string{zone}
	}
	if identity := p.identity(); identity != nil {
		body["identity"] = identity
	}
	p.noteMachine()
	raw, err := json.Marshal(body)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "the virtual machine cannot be described")
	}
	return &Step{ID: p.id("Microsoft.Compute/virtualMachines", p.name), Body: raw}, nil
}

// storage attaches the restored disks in the places of the old ones.
func (p *planner) storage(plan Plan) object {
	was := p.source.vm.inner("properties", "storageProfile")
	profile := was.pick("diskControllerType")
	var data []object
	for _, d := range plan.Disks {
		place := object{"createOption": "Attach", "managedDisk": object{"id": string(d.ID)}}
		old := was.inner("osDisk")
		if d.LUN != holdfast.OSDisk {
			old = findLUN(was.list("dataDisks"), d.LUN)
		}
		maps.Copy(place, old.pick("caching", "deleteOption", "writeAcceleratorEnabled"))
		if d.SizeBytes >= withoutCaching {
			place["caching"] = "None"
		}
		if d.LUN == holdfast.OSDisk {
			place["osType"] = old.text("osType")
			profile["osDisk"] = place
			continue
		}
		place["lun"] = json.Number(d.LUN)
		data = append(data, place)
	}
	if len(data) > 0 {
		profile["dataDisks"] = data
	}
	return profile
}

func findLUN(disks []object, lun holdfast.LUN) object {
	for _, d := range disks {
		if number, ok := d["lun"].(json.Number); ok && string(number) == string(lun) {
			return d
		}
	}
	return nil
}

func (p *planner) nicDeleteOption() string {
	interfaces := p.source.vm.list("properties", "networkProfile", "networkInterfaces")
	if len(interfaces) > 0 {
		if option := interfaces[0].text("properties", "deleteOption"); option != "" {
			return option
		}
	}
	return "Detach"
}

// identity keeps identities that exist apart from the machine. The machine's own is a new principal after a restore.
func (p *planner) identity() object {
	was := p.source.vm.inner("identity")
	if strings.Contains(strings.ToLower(was.text("type")), "systemassigned") {
		p.note("the machine's own identity is new or missing: turn it on where needed and give it its roles again")
	}
	users := was.inner("userAssignedIdentities")
	if len(users) == 0 {
		return nil
	}
	empty := object{}
	for id := range users {
		empty[id] = object{}
	}
	return object{"type": "UserAssigned", "userAssignedIdentities": empty}
}

// noteMachine tells what of the machine cannot be carried over.
func (p *planner) noteMachine() {
	for _, lost := range []struct{ name, what string }{
		{"availabilitySet", "availability set"},
		{"virtualMachineScaleSet", "scale set"},
		{"proximityPlacementGroup", "proximity placement group"},
		{"host", "dedicated host"},
		{"hostGroup", "dedicated host group"},
		{"capacityReservation", "capacity reservation"},
		{"applicationProfile", "list of gallery applications"},
	} {
		if p.source.vm.at("properties", lost.name) != nil {
			p.note("the %s of the machine is not carried over", lost.what)
		}
	}
	if p.source.vm.at("properties", "osProfile") != nil {
		p.note("Azure takes no OS profile with attached disks: users, keys and patch settings live on inside the disks, not in Azure's description")
	}
	if p.source.vm.at("resources") != nil {
		p.note("extensions are not carried over; their protected settings cannot be read back")
	}
}
