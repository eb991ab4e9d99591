package compute

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"
	"github.com/klauspost/compress/zstd"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
	"github.com/holdfast-backup/holdfast/internal/twin/network"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/storageaccount"
)

// seededID marks a state that an estate was made in.
const seededID = "twin/seeded"

// Seed makes everything that the estate declares, all of it or nothing; a state that was seeded before is left as it is.
// Images are read from imageDir. Storage accounts become resources; their blob side is somebody else's. Errors have
// KindInvalid where the estate asks for something that the platform refuses.
func (p *Provider) Seed(ctx context.Context, e estate.Estate, imageDir string) error {
	err := p.state.Update(func(tx *state.Tx) error {
		if tx.Get(seededID) != nil {
			return nil
		}
		s := &seeding{provider: p, call: p.arm.Inside(ctx, tx), tx: tx, estate: e, imageDir: imageDir, groups: map[string]*state.Document{}, subnets: map[string]string{}}
		if err := s.run(); err != nil {
			return err
		}
		tx.Put(&state.Document{ID: seededID, Created: s.call.Now})
		return nil
	})
	return outside(err)
}

// seeding is one run of Seed, inside its transaction.
type seeding struct {
	provider *Provider
	call     *arm.Call
	tx       *state.Tx
	estate   estate.Estate
	imageDir string
	groups   map[string]*state.Document // by lower-cased name
	subnets  map[string]string          // ids by lower-cased NETWORK/SUBNET
}

func (s *seeding) run() error {
	for _, step := range []func() error{s.subscriptionsAndGroups, s.networks, s.accounts, s.quotas, s.machines, s.locks} {
		if err := step(); err != nil {
			return err
		}
	}
	return s.call.Context.Err()
}

func (s *seeding) subscriptionsAndGroups() error {
	for _, subscription := range s.estate.Subscriptions {
		arm.EnsureSubscription(s.tx, arm.Subscription{ID: subscription.ID, Name: subscription.Name}, s.call.Now)
	}
	for _, g := range s.estate.ResourceGroups {
		if _, known := arm.FindRegion(g.Location); !known {
			return holdfast.Errorf(holdfast.KindInvalid, "resource group %s: %q is no location of the platform", g.Name, g.Location).WithField("location")
		}
		group := arm.NewGroup(s.estate.SubscriptionID(g), g.Name, g.Location, tagsOf(g.Tags), s.call.Now)
		s.tx.Put(group)
		s.groups[strings.ToLower(g.Name)] = group
	}
	return nil
}

func tagsOf(tags map[string]string) state.Object {
	object := state.Object{}
	for name, value := range tags {
		object[name] = value
	}
	return object
}

// newDocument begins a resource of a group, in the group's location.
func (s *seeding) newDocument(group, resourceType, name string) (*state.Document, error) {
	home := s.groups[strings.ToLower(group)]
	if home == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%s is in resource group %q, which the estate does not declare", name, group)
	}
	id := home.ID + "/providers/" + resourceType + "/" + name
	return s.call.NewDocument(id, state.Object{"location": home.Body.Text("location")}), nil
}

func (s *seeding) networks() error {
	for _, n := range s.estate.Networks {
		doc, err := s.newDocument(n.ResourceGroup, network.VirtualNetworkType, n.Name)
		if err != nil {
			return err
		}
		doc.Body.Set("properties.addressSpace.addressPrefixes", []string{n.AddressPrefix})
		doc.Body.Set("properties.provisioningState", "Succeeded")
		s.tx.Put(doc)
		for _, subnet := range n.Subnets {
			child := s.call.NewDocument(doc.ID+"/subnets/"+subnet.Name, state.Object{})
			child.Body.Set("properties.addressPrefix", subnet.AddressPrefix)
			child.Body.Set("properties.provisioningState", "Succeeded")
			s.tx.Put(child)
			s.subnets[strings.ToLower(n.Name+"/"+subnet.Name)] = child.ID
		}
	}
	return nil
}

func (s *seeding) accounts() error {
	for _, a := range s.estate.StorageAccounts {
		shell, err := s.newDocument(a.ResourceGroup, storageaccount.Type, a.Name)
		if err != nil {
			return err
		}
		doc, err := storageaccount.New(shell.ID, shell.Body, s.call.Now)
		if err != nil {
			return err
		}
		s.tx.Put(doc)
	}
	return nil
}

func (s *seeding) quotas() error {
	for _, quota := range s.estate.Quotas {
		for _, subscription := range s.estate.Subscriptions {
			SetQuota(s.tx, subscription.ID, quota.Location, quota.Cores)
		}
	}
	return nil
}

func (s *seeding) machines() error {
	for _, m := range s.estate.VirtualMachines {
		if err := s.machine(m); err != nil {
			return holdfast.Wrap(kindOf(err), err, "the virtual machine %s cannot be made", m.Name)
		}
	}
	return nil
}

// kindOf tells an ARM refusal, which is the estate's fault, from a failure.
func kindOf(err error) holdfast.Kind {
	if arm.AsError(err) != nil {
		return holdfast.KindInvalid
	}
	return holdfast.KindOf(err)
}

func (s *seeding) machine(m estate.VirtualMachine) error {
	doc, err := s.newDocument(m.ResourceGroup, machineType, m.Name)
	if err != nil {
		return err
	}
	body := doc.Body
	body["tags"] = map[string]any(tagsOf(m.Tags))
	if m.Zone != "" {
		body.Set("zones", []string{m.Zone})
	}
	size, known := findSize(m.Size)
	if !known {
		return holdfast.Errorf(holdfast.KindInvalid, "the twin has no VM size %s", m.Size).WithField("size")
	}
	body.Set("properties.hardwareProfile.vmSize", size.Name)
	if err := s.osDisk(m, doc); err != nil {
		return err
	}
	if err := s.dataDisks(m, doc); err != nil {
		return err
	}
	if err := s.nic(m, doc); err != nil {
		return err
	}
	if err := s.provider.createMachine(s.call, doc); err != nil {
		return err
	}
	s.describeGuest(m, body)
	body.Set("properties.provisioningState", "Succeeded")
	s.tx.Put(doc)
	return nil
}

// describeGuest makes the VM look as one that was made from an image, with a profile that no restored VM can have.
func (s *seeding) describeGuest(m estate.VirtualMachine, body state.Object) {
	body.Set("properties.storageProfile.osDisk.createOption", "FromImage")
	image := state.Object{"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server", "version": "latest"}
	settings := "linuxConfiguration"
	if m.OS == string(armcompute.OperatingSystemTypesWindows) {
		image = state.Object{"publisher": "MicrosoftWindowsServer", "offer": "WindowsServer", "sku": "2022-datacenter-azure-edition", "version": "latest"}
		settings = "windowsConfiguration"
	}
	body.Set("properties.storageProfile.imageReference", image)
	body.Set("properties.osProfile.computerName", m.Name)
	body.Set("properties.osProfile.adminUsername", "azureuser")
	body.Set("properties.osProfile."+settings+".provisionVMAgent", true)
}

func (s *seeding) osDisk(m estate.VirtualMachine, machine *state.Document) error {
	const path = "properties.storageProfile.osDisk"
	machine.Body.Set(path+".osType", m.OS)
	machine.Body.Set(path+".name", m.OSDisk.Name)
	if m.OSDisk.Ephemeral {
		machine.Body.Set(path+".createOption", "FromImage")
		machine.Body.Set(path+".diffDiskSettings.option", "Local")
		machine.Body.Set(path+".caching", "ReadOnly")
		machine.Body.Set(path+".diskSizeGB", m.OSDisk.SizeGiB)
		return nil
	}
	id, err := s.disk(m, m.OSDisk, m.OS)
	if err != nil {
		return err
	}
	machine.Body.Set(path+".createOption", "Attach")
	machine.Body.Set(path+".deleteOption", "Detach")
	machine.Body.Set(path+".managedDisk.id", id)
	if m.OSDisk.Caching != "" {
		machine.Body.Set(path+".caching", m.OSDisk.Caching)
	}
	return nil
}

func (s *seeding) dataDisks(m estate.VirtualMachine, machine *state.Document) error {
	references := []state.Object{}
	for _, d := range m.DataDisks {
		id, err := s.disk(m, d, "")
		if err != nil {
			return err
		}
		reference := state.Object{"createOption": "Attach", "name": d.Name, "deleteOption": "Detach"}
		reference.Set("lun", d.LUN)
		reference.Set("managedDisk.id", id)
		if d.Caching != "" {
			reference.Set("caching", d.Caching)
		}
		if d.SKU == string(armcompute.DiskStorageAccountTypesUltraSSDLRS) {
			machine.Body.Set("properties.additionalCapabilities.ultraSSDEnabled", true)
		}
		references = append(references, reference)
	}
	machine.Body.Set("properties.storageProfile.dataDisks", references)
	return nil
}

// disk makes a disk with its content and returns its id.
func (s *seeding) disk(m estate.VirtualMachine, d estate.Disk, system string) (string, error) {
	doc, err := s.newDocument(m.ResourceGroup, diskType, d.Name)
	if err != nil {
		return "", err
	}
	body := doc.Body
	body["tags"] = map[string]any(tagsOf(m.Tags))
	if m.Zone != "" && !strings.HasSuffix(d.SKU, "_ZRS") {
		body.Set("zones", []string{m.Zone})
	}
	if d.SKU != "" {
		body.Set("sku.name", d.SKU)
	}
	body.Set("properties.creationData.createOption", "Empty")
	body.Set("properties.diskSizeGB", d.SizeGiB)
	if system != "" {
		body.Set("properties.osType", system)
		body.Set("properties.hyperVGeneration", "V2")
	}
	describeDisk(body, d)
	if err := s.provider.createDisk(s.call, doc); err != nil {
		return "", err
	}
	if err := s.fill(doc, d.Image); err != nil {
		return "", err
	}
	body.Set("properties.provisioningState", "Succeeded")
	s.tx.Put(doc)
	return doc.ID, nil
}

// describeDisk sets what an estate may say of single disks. Ultra and Premium v2 disks have sectors of 512 bytes unless it
// asks for 4096.
func describeDisk(body state.Object, d estate.Disk) {
	if isLarge(d.SKU) || d.LogicalSectorBytes != 0 {
		sector := d.LogicalSectorBytes
		if sector == 0 {
			sector = 512
		}
		body.Set("properties.creationData.logicalSectorSize", sector)
	}
	if d.Shared {
		body.Set("properties.maxShares", 2)
	}
	if d.NetworkAccessPolicy == "" {
		return
	}
	body.Set("properties.networkAccessPolicy", d.NetworkAccessPolicy)
	if d.NetworkAccessPolicy == string(armcompute.NetworkAccessPolicyAllowPrivate) {
		id := body.Text("id")
		body.Set("properties.diskAccessId", id[:strings.LastIndex(id, "/disks/")]+"/diskAccesses/"+d.Name+"-access")
	}
}

// fill reads an image into a disk's volume.
func (s *seeding) fill(doc *state.Document, image string) error {
	if image == "" {
		return nil
	}
	path := image
	if !filepath.IsAbs(path) {
		path = filepath.Join(s.imageDir, image)
	}
	file, err := os.Open(path)
	if err != nil {
		return holdfast.Wrap(holdfast.KindNotFound, err, "the image %s cannot be read", image).WithField("image")
	}
	defer func() { _ = file.Close() }()
	content, err := decompress(file, image)
	if err != nil {
		return holdfast.Wrap(holdfast.KindInvalid, err, "the image %s cannot be unpacked", image).WithField("image")
	}
	defer func() { _ = content.Close() }()
	limited := &limitedReader{source: content, left: doc.Body.Int("properties.diskSizeBytes")}
	if err := s.provider.volumes.Import(volumeOf(doc), limited); err != nil {
		return holdfast.Wrap(holdfast.KindInvalid, err, "the image %s cannot be put on the disk %s", image, doc.Body.Text("name")).WithField("image")
	}
	return nil
}

func decompress(file io.Reader, name string) (io.ReadCloser, error) {
	switch filepath.Ext(name) {
	case ".gz":
		return gzip.NewReader(file)
	case ".zst":
		decoder, err := zstd.NewReader(file)
		if err != nil {
			return nil, err
		}
		return decoder.IOReadCloser(), nil
	default:
		return io.NopCloser(file), nil
	}
}

var errImageTooLarge = errors.New("the image is larger than the disk")

// limitedReader fails, rather than ends, when the source is longer than the disk.
type limitedReader struct {
	source io.Reader
	left   int64
}

// Read implements io.Reader.
func (r *limitedReader) Read(p []byte) (int, error) {
	n, err := r.source.Read(p)
	r.left -= int64(n)
	if r.left < 0 {
		return 0, errImageTooLarge
	}
	return n, err
}

func (s *seeding) nic(m estate.VirtualMachine, machine *state.Document) error {
	doc, err := s.newDocument(m.ResourceGroup, network.InterfaceType, m.Name+"-nic")
	if err != nil {
		return err
	}
	subnet := s.subnets[strings.ToLower(m.Subnet)]
	if subnet == "" {
		return holdfast.Errorf(holdfast.KindInvalid, "the estate declares no subnet %q", m.Subnet).WithField("subnet")
	}
	if err := network.NewInterface(s.tx.View, doc, subnet); err != nil {
		return err
	}
	doc.Body.Set("properties.virtualMachine.id", machine.ID)
	s.tx.Put(doc)
	reference := state.Object{"id": doc.ID}
	reference.Set("properties.primary", true)
	reference.Set("properties.deleteOption", "Detach")
	machine.Body.Set("properties.networkProfile.networkInterfaces", []state.Object{reference})
	return nil
}

// locks come last: a scope names a group, or a group and one of its resources, of which a VM comes before others.
func (s *seeding) locks() error {
	for i, lock := range s.estate.Locks {
		groupName, resource, below := strings.Cut(lock.Scope, "/")
		group := s.groups[strings.ToLower(groupName)]
		if group == nil {
			return holdfast.Errorf(holdfast.KindInvalid, "a lock names the resource group %q, which the estate does not declare", groupName).WithField("locks")
		}
		scope := group.ID
		if below {
			scope = s.findInGroup(group, resource)
		}
		if scope == "" {
			return holdfast.Errorf(holdfast.KindInvalid, "a lock names %q, which the estate does not declare", lock.Scope).WithField("locks")
		}
		doc := arm.NewLock(scope, "estate-"+strings.ToLower(lock.Level)+"-"+strconv.Itoa(i+1), lock.Level)
		doc.Created = s.call.Now
		s.tx.Put(doc)
	}
	return nil
}

func (s *seeding) findInGroup(group *state.Document, name string) string {
	found := ""
	for doc := range s.tx.Below(group.Key() + "/providers/") {
		if !strings.EqualFold(doc.ID[strings.LastIndex(doc.ID, "/")+1:], name) {
			continue
		}
		if isKind(doc.ID, machineType) {
			return doc.ID
		}
		if found == "" {
			found = doc.ID
		}
	}
	return found
}
