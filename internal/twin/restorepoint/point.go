package restorepoint

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/compute/armcompute/v8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/arm"
	"github.com/holdfast-backup/holdfast/internal/twin/compute/facts"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// What the twin alone knows.
const (
	hiddenUnderWay = "restorePoint"      // of a machine: the point that is being made of it
	hiddenTimes    = "restorePointTimes" // of a machine: MODE TIME of the latest points
	hiddenFailed   = "failed"            // of a point: the agent's refusal is how its creation ends
)

// capture is a point that is going to be made.
type capture struct {
	machine *state.Document
	disks   []captured
	mode    armcompute.ConsistencyModeTypes // what was asked for: crash or application consistency
	result  armcompute.ConsistencyModeTypes // what the point may claim
	failure *arm.Error                      // how the creation ends, although it is accepted
}

// captured is a disk in its place.
type captured struct {
	disk      *state.Document
	reference state.Object // in the machine's storage profile
	lun       string       // "" for the OS disk
	id        string       // of the disk restore point
}

func (p *Provider) putPoint(call *arm.Call, id string, existing *state.Document) (arm.Answer, error) {
	if err := decodes[armcompute.RestorePoint](call.Body); err != nil {
		return arm.Answer{}, err
	}
	if existing != nil {
		return arm.Answer{}, notAllowed("The restore point '%s' exists already. Updating the properties of a restore point is not allowed.", existing.ID)
	}
	collection := call.View.Get(parentOf(id))
	if collection == nil {
		return arm.Answer{}, arm.Errorf(http.StatusNotFound, "ParentResourceNotFound", "The restore point collection '%s' was not found.", parentOf(id))
	}
	if arm.Busy(collection) {
		return arm.Answer{}, arm.Errorf(http.StatusConflict, "AnotherOperationInProgress", "Another operation on the resource %s is in progress. Please retry later.", collection.ID)
	}
	c, err := p.plan(call, collection)
	if err != nil {
		return arm.Answer{}, err
	}
	doc := call.NewDocument(id, state.Object{})
	if c.failure == nil {
		if err := p.take(call, doc, c); err != nil {
			return arm.Answer{}, err
		}
	}
	p.note(call, doc, c)
	operation := &arm.Operation{Kind: finishCreated, Resource: doc.ID, Location: collection.Body.Text("location"), Namespace: namespace, Path: "operations", Fail: c.failure}
	return arm.Answer{Status: http.StatusCreated, Body: call.Rendered(doc), Operation: operation}, nil
}

// plan checks everything that can be refused, and asks the guest where its help is wanted.
func (p *Provider) plan(call *arm.Call, collection *state.Document) (*capture, error) {
	body := call.Body
	if body.At("properties.sourceRestorePoint") != nil {
		return nil, invalid("sourceRestorePoint", "The twin does not copy restore points between regions.")
	}
	if body.At("properties.instantAccessDurationMinutes") != nil {
		return nil, invalid("instantAccessDurationMinutes", "The twin's restore points have no instant access.")
	}
	// "For now, only CrashConsistent is accepted as a valid input": the other modes are what a point turns out to have.
	mode := armcompute.ConsistencyModeTypes(body.Text("properties.consistencyMode"))
	switch mode {
	case armcompute.ConsistencyModeTypesCrashConsistent:
	case "":
		mode = armcompute.ConsistencyModeTypesApplicationConsistent
	default:
		return nil, invalid("consistencyMode", "The value '%s' of parameter 'consistencyMode' is not accepted: CrashConsistent is, or none for an application-consistent restore point.", mode)
	}
	machine := call.View.Get(collection.Body.Text("properties.source.id"))
	if machine == nil {
		return nil, arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The virtual machine '%s' of the restore point collection was not found.", collection.Body.Text("properties.source.id"))
	}
	c := &capture{machine: machine, mode: mode, result: mode}
	for _, check := range []func(*arm.Call, *capture) error{p.checkMachine, chooseDisks, checkDisks, p.checkLimits} {
		if err := check(call, c); err != nil {
			return nil, err
		}
	}
	if mode == armcompute.ConsistencyModeTypesApplicationConsistent {
		c.result, c.failure = p.quiesce(call.Tx, machine, call.Now)
	}
	return c, nil
}

func (p *Provider) checkMachine(call *arm.Call, c *capture) error {
	application := c.mode == armcompute.ConsistencyModeTypesApplicationConsistent
	_, running := facts.Running(c.machine)
	size := c.machine.Body.Text("properties.hardwareProfile.vmSize")
	switch {
	case arm.Busy(c.machine):
		return notAllowed("The virtual machine '%s' is being changed. A restore point can be made when that is over.", c.machine.ID)
	case c.machine.Hidden.Text(hiddenUnderWay) != "" && call.View.Get(c.machine.Hidden.Text(hiddenUnderWay)) != nil:
		return notAllowed("Another restore point of the virtual machine '%s' is being created; there can be one at a time.", c.machine.ID)
	case c.machine.Body.Text("properties.securityProfile.securityType") == "ConfidentialVM":
		return notAllowed("Restore points of confidential virtual machines are not supported.")
	case application && !running:
		return notAllowed("The operation requires the VM to be running (or set to run).")
	case !application && !p.disks.TakesPremium(size):
		return notAllowed("Crash-consistent restore points need a VM size that supports premium storage; '%s' does not.", size)
	}
	return nil
}

// chooseDisks lists the machine's disks but those that are excluded.
func chooseDisks(call *arm.Call, c *capture) error {
	excluded := map[string]bool{}
	for _, reference := range call.Body.Objects("properties.excludeDisks") {
		excluded[state.Key(reference.Text("id"))] = true
	}
	wanted := len(excluded)
	for _, reference := range facts.DiskReferences(c.machine.Body) {
		id := reference.Text("managedDisk.id")
		if id == "" {
			return notAllowed("The disk '%s' is not a managed disk that restore points support: it is ephemeral or unmanaged.", reference.Text("name"))
		}
		if excluded[state.Key(id)] {
			wanted--
			continue
		}
		disk := call.View.Get(id)
		if disk == nil {
			return arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The disk '%s' was not found.", id)
		}
		place := captured{disk: disk, reference: reference}
		if reference.At("lun") != nil {
			place.lun = strconv.FormatInt(reference.Int("lun"), 10)
		}
		c.disks = append(c.disks, place)
	}
	switch {
	case wanted != 0:
		return invalid("excludeDisks", "%d of the disks to exclude are not attached to the virtual machine '%s'.", wanted, c.machine.ID)
	case len(c.disks) == 0:
		return invalid("excludeDisks", "A restore point needs a disk; all are excluded.")
	}
	return nil
}

// checkDisks applies the support matrix.
func checkDisks(_ *arm.Call, c *capture) error {
	crash := c.mode == armcompute.ConsistencyModeTypesCrashConsistent
	for _, d := range c.disks {
		switch body := d.disk.Body; {
		case body.Int("properties.maxShares") > 1:
			return notAllowed("The shared disk '%s' is not supported by restore points. Exclude it.", d.disk.ID)
		case crash && facts.IsLarge(d.disk.Body.Text("sku.name")):
			return notAllowed("The disk '%s' has SKU %s, which crash-consistent restore points do not support. Exclude it.", d.disk.ID, body.Text("sku.name"))
		case crash && d.reference.Flag("writeAcceleratorEnabled"):
			return notAllowed("The disk '%s' has the write accelerator, which crash-consistent restore points do not support. Exclude it.", d.disk.ID)
		case body.Text("properties.provisioningState") != "Succeeded":
			return notAllowed("The disk '%s' is being changed.", d.disk.ID)
		}
	}
	return nil
}

func (p *Provider) checkLimits(call *arm.Call, c *capture) error {
	alive := 0
	for doc := range call.View.Below("/subscriptions/" + strings.ToLower(subscriptionOf(c.machine.ID)) + "/resourcegroups/") {
		if strings.EqualFold(arm.TypeOf(doc.ID), PointType) && doc.Body.Text("properties.sourceMetadata.vmId") == c.machine.Body.Text("properties.vmId") {
			alive++
		}
	}
	if alive >= pointsPerMachineMax {
		return notAllowed("The virtual machine '%s' has %d restore points, which is the maximum. Delete older ones first.", c.machine.ID, alive)
	}
	recent := recentPoints(c.machine, c.mode, call.Now)
	if len(recent) < pointsPerHourAndMode || p.rateOff.Load() {
		return nil
	}
	wait := rateWindow - call.Now.Sub(recent[len(recent)-pointsPerHourAndMode])
	refusal := arm.Errorf(http.StatusTooManyRequests, "TooManyRequests", "The virtual machine '%s' had %d restore points of this mode within an hour, which is the maximum.", c.machine.ID, len(recent))
	refusal.Header = http.Header{"Retry-After": {strconv.Itoa(int((wait + time.Second - 1) / time.Second))}}
	return refusal
}

// recentPoints returns the moments within the window at which points of a mode were begun, the oldest first.
func recentPoints(machine *state.Document, mode armcompute.ConsistencyModeTypes, now time.Time) []time.Time {
	var recent []time.Time
	for _, text := range machine.Hidden.Texts(hiddenTimes) {
		made, at, _ := strings.Cut(text, " ")
		if taken, err := time.Parse(time.RFC3339Nano, at); err == nil && made == string(mode) && now.Sub(taken) < rateWindow {
			recent = append(recent, taken)
		}
	}
	return recent
}

// take captures the disks and completes the documents of the point and of each disk. Where nothing is guaranteed, the last
// disk is captured only when the creation ends: whatever the guest wrote in between is on that disk and on no other.
func (p *Provider) take(call *arm.Call, doc *state.Document, c *capture) error {
	now := c.disks
	if c.mode == armcompute.ConsistencyModeTypesCrashConsistent && !guaranteed(c) {
		now = c.disks[:len(c.disks)-1]
	}
	ids := make([]vdisk.ID, len(now))
	for i, d := range now {
		ids[i] = facts.VolumeOf(d.disk)
	}
	frozen, err := p.volumes.SnapshotSet(ids)
	if err != nil {
		return holdfast.Wrap(holdfast.KindInternal, err, "the twin's volume store refused")
	}
	for i := range c.disks {
		d := &c.disks[i]
		d.id = doc.ID + "/diskRestorePoints/" + d.disk.Body.Text("name") + "_" + newID()
		child := diskPoint(call, d)
		if i < len(frozen) {
			p.hold(call.Tx, child, d.disk, frozen[i], call.Now)
		}
		call.Tx.Put(child)
	}
	return nil
}

// diskPoint describes a disk restore point.
func diskPoint(call *arm.Call, d *captured) *state.Document {
	child := call.NewDocument(d.id, state.Object{})
	child.Body.Set("properties.timeCreated", call.Now)
	child.Body.Set("properties.sourceResourceId", d.disk.ID)
	child.Body.Set("properties.sourceUniqueId", d.disk.Body.Text("properties.uniqueId"))
	for _, name := range []string{"osType", "hyperVGeneration", "supportedCapabilities", "purchasePlan", "securityProfile", "encryption", "networkAccessPolicy", "publicNetworkAccess", "diskAccessId"} {
		if value := d.disk.Body.At("properties." + name); value != nil {
			child.Body.Set("properties."+name, value)
		}
	}
	if sector := d.disk.Body.At("properties.creationData.logicalSectorSize"); sector != nil {
		child.Body.Set("properties.logicalSectorSize", sector)
	}
	return child
}

// hold gives a frozen volume to a disk restore point, for as long as the transaction is not dropped.
func (p *Provider) hold(tx *state.Tx, child, disk *state.Document, volume vdisk.Volume, now time.Time) {
	tx.OnRollback(func() { p.drop(volume.ID) })
	p.disks.Hold(child, disk, volume.ID, now)
}

// captureLate captures what take left.
func (p *Provider) captureLate(tx *state.Tx, point *state.Document, now time.Time) error {
	for child := range below(tx.View, point, DiskType) {
		if facts.VolumeOf(child) != "" {
			continue
		}
		disk := tx.Get(child.Body.Text("properties.sourceResourceId"))
		if disk == nil {
			return arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The disk '%s' was removed while the operation was under way.", child.Body.Text("properties.sourceResourceId"))
		}
		volume, err := p.volumes.Snapshot(facts.VolumeOf(disk))
		if err != nil {
			return err
		}
		late := child.Clone()
		p.hold(tx, late, disk, volume, now)
		tx.Put(late)
	}
	return nil
}

// guaranteed reports whether the platform promises that a crash-consistent point is one across disks: not with a disk whose
// writes may wait in the host's cache, and not with several data disks on sizes with Azure Boost.
func guaranteed(c *capture) bool {
	data := 0
	for _, d := range c.disks {
		if d.reference.Text("caching") == string(armcompute.CachingTypesReadWrite) {
			return false
		}
		if d.lun != "" {
			data++
		}
	}
	return data < 2 || !boosted(c.machine.Body.Text("properties.hardwareProfile.vmSize"))
}

// boosted tells the sizes of the support matrix: version 6 and later of Intel, 7 and later of AMD, whose names bear an "a"
// behind the number of vCPUs.
func boosted(size string) bool {
	name, version, found := strings.Cut(strings.TrimPrefix(size, "Standard_"), "_v")
	number, err := strconv.Atoi(version)
	if !found || err != nil {
		return false
	}
	features := strings.TrimLeft(strings.TrimLeft(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ"), "0123456789-")
	if strings.Contains(features, "a") {
		return number >= 7
	}
	return number >= 6
}

func (p *Provider) drop(id vdisk.ID) {
	if err := p.volumes.Delete(id); err != nil {
		// best effort: the next start of the twin removes what no document names
		p.log.Warn("volume not removed", "volume", string(id), "error", err.Error())
	}
}

// note stores the point, and on the machine that one is under way.
func (p *Provider) note(call *arm.Call, doc *state.Document, c *capture) {
	doc.Body.Set("properties.provisioningState", "Creating")
	doc.Body.Set("properties.timeCreated", call.Now)
	doc.Body.Set("properties.consistencyMode", string(c.result))
	if c.failure != nil {
		doc.Hidden.Set(hiddenFailed, true)
		doc.Body.Remove("properties.consistencyMode")
	}
	if excluded := call.Body.At("properties.excludeDisks"); excluded != nil {
		doc.Body.Set("properties.excludeDisks", excluded)
	}
	doc.Body.Set("properties.sourceMetadata", metadata(c))
	call.Tx.Put(doc)

	noted := c.machine.Clone()
	if latest := call.Tx.Get(c.machine.ID); latest != nil {
		noted = latest.Clone()
	}
	noted.Hidden.Set(hiddenUnderWay, doc.ID)
	var times []string
	for _, mode := range armcompute.PossibleConsistencyModeTypesValues() {
		for _, at := range recentPoints(c.machine, mode, call.Now) {
			times = append(times, fmt.Sprintf("%s %s", mode, at.Format(time.RFC3339Nano)))
		}
	}
	noted.Hidden.Set(hiddenTimes, append(times, fmt.Sprintf("%s %s", c.mode, call.Now.Format(time.RFC3339Nano))))
	call.Tx.Put(noted)
}

// created ends a creation. One that the agent refused leaves a point that failed, which counts and has to be deleted.
func (p *Provider) created(tx *state.Tx, op *state.Document, now time.Time) (state.Object, error) {
	doc := tx.Get(op.Hidden.Text("resource"))
	if doc == nil {
		return nil, arm.Errorf(http.StatusNotFound, "ResourceNotFound", "The restore point was removed while the operation was under way.")
	}
	if err := p.captureLate(tx, doc, now); err != nil {
		return nil, err
	}
	ready := doc.Clone()
	ready.Body.Set("properties.provisioningState", "Succeeded")
	if doc.Hidden.Flag(hiddenFailed) {
		ready.Body.Set("properties.provisioningState", "Failed")
	}
	tx.Put(ready)
	collection := tx.Get(parentOf(doc.ID))
	if collection == nil {
		return ready.Body, nil
	}
	if machine := tx.Get(collection.Body.Text("properties.source.id")); machine != nil && machine.Hidden.Text(hiddenUnderWay) == doc.ID {
		free := machine.Clone()
		free.Hidden.Remove(hiddenUnderWay)
		tx.Put(free)
	}
	return ready.Body, nil
}
