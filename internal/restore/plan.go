package restore

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/machine"
)

// Request says what to restore and where to.
type Request struct {
	Point         holdfast.PointID
	Name          string              // of the new machine; disks and interface are called after it
	ResourceGroup string              // a name in the source's subscription, or an id; "" means the source's group
	Subnet        holdfast.ResourceID // "" means the source's
	Size          string              // "" means the source's
}

// DiskRequest says which disks to restore and where to.
type DiskRequest struct {
	Point         holdfast.PointID
	Name          string // disks are called NAME-os and NAME-lunN
	ResourceGroup string
	LUNs          []holdfast.LUN // empty means all
}

// Plan is what Run will do, decided and checked, fit to be shown before it is carried out. It holds no secrets.
type Plan struct {
	Point    holdfast.PointID    `json:"point"`
	Source   holdfast.ResourceID `json:"source"`
	Location string              `json:"location"`
	Disks    []PlannedDisk       `json:"disks"`
	NIC      *Step               `json:"nic,omitempty"` // nil when disks alone are restored
	VM       *Step               `json:"vm,omitempty"`
	Notes    []string            `json:"notes,omitempty"` // what will not be as it was
}

// Step is one resource to be created: its id, and the body in the form of its REST page.
type Step struct {
	ID   holdfast.ResourceID `json:"id"`
	Body json.RawMessage     `json:"body"`
}

// PlannedDisk is one disk to be created and filled.
type PlannedDisk struct {
	Step
	LUN       holdfast.LUN  `json:"lun"`
	SizeBytes int64         `json:"sizeBytes"`
	SKU       string        `json:"sku"`
	Root      holdfast.Root `json:"root"` // what the disk must be equal to in the end
}

// Lines describes the plan for a person, one step a line.
func (p Plan) Lines() []string {
	var lines []string
	for _, d := range p.Disks {
		lines = append(lines, fmt.Sprintf("create disk %s (%s, %d GiB) and fill it from disk %s of %s", d.ID.Name(), d.SKU, d.SizeBytes>>30, d.LUN, p.Point))
	}
	if p.NIC != nil {
		lines = append(lines, "create network interface "+p.NIC.ID.Name())
	}
	if p.VM != nil {
		lines = append(lines, fmt.Sprintf("create virtual machine %s in %s", p.VM.ID.Name(), p.Location))
	}
	for _, note := range p.Notes {
		lines = append(lines, "note: "+note)
	}
	return lines
}

// ids returns the plan's resources in the order in which they can be removed.
func (p Plan) ids() []holdfast.ResourceID {
	var ids []holdfast.ResourceID
	if p.VM != nil {
		ids = append(ids, p.VM.ID, p.NIC.ID)
	}
	for _, d := range p.Disks {
		ids = append(ids, d.ID)
	}
	return ids
}

// planner gathers what a plan is made of.
type planner struct {
	flow     *Flow
	point    holdfast.Point
	source   source
	group    holdfast.ResourceID // /subscriptions/S/resourceGroups/G of the target
	name     string
	location string
	moved    bool // to another region than the source's
	alone    bool // disks without a machine
	notes    []string
}

// Plan decides how a machine is restored and checks that nothing stands in the way: the point, the names, the group, the
// subnet, the size, quotas and locks. It changes nothing.
func (f *Flow) Plan(ctx context.Context, request Request) (Plan, error) {
	p, err := f.newPlanner(ctx, request.Point, request.Name, request.ResourceGroup)
	if err != nil {
		return Plan{}, err
	}
	subnet, err := p.chooseSubnet(ctx, request.Subnet)
	if err != nil {
		return Plan{}, err
	}
	size, err := p.chooseSize(ctx, request.Size)
	if err != nil {
		return Plan{}, err
	}
	if err := p.checkLocks(ctx); err != nil {
		return Plan{}, err
	}
	plan := Plan{Point: p.point.ID, Source: p.point.VM, Location: p.location}
	zone := p.chooseZone(size)
	if plan.Disks, err = p.disks(allLUNs(p.point), zone); err != nil {
		return Plan{}, err
	}
	if plan.NIC, err = p.nic(subnet, size); err != nil {
		return Plan{}, err
	}
	if plan.VM, err = p.machine(plan, size, zone); err != nil {
		return Plan{}, err
	}
	plan.Notes = p.notes
	return plan, f.checkNames(ctx, plan)
}

// PlanDisks decides how disks alone are restored, in the source's region and zone.
func (f *Flow) PlanDisks(ctx context.Context, request DiskRequest) (Plan, error) {
	p, err := f.newPlanner(ctx, request.Point, request.Name, request.ResourceGroup)
	if err != nil {
		return Plan{}, err
	}
	p.alone = true
	luns := request.LUNs
	if len(luns) == 0 {
		luns = allLUNs(p.point)
	}
	if err := p.checkLocks(ctx); err != nil {
		return Plan{}, err
	}
	plan := Plan{Point: p.point.ID, Source: p.point.VM, Location: p.location}
	if plan.Disks, err = p.disks(luns, ""); err != nil {
		return Plan{}, err
	}
	plan.Notes = p.notes
	return plan, f.checkNames(ctx, plan)
}

// nameShape is what Azure accepts for disks and machines; nameCharsMax leaves room for -lunNN within the 64 of a machine.
var nameShape = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$`)

const nameCharsMax = 58

func (f *Flow) newPlanner(ctx context.Context, id holdfast.PointID, name, group string) (*planner, error) {
	if len(name) > nameCharsMax || !nameShape.MatchString(name) {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%q cannot be the name of a machine", name).WithField("name").
			WithHint("use up to %d letters, digits, dots, dashes and underscores, beginning with a letter or digit", nameCharsMax)
	}
	reader, err := f.config.Repository.OpenPoint(ctx, id)
	if err != nil {
		return nil, err
	}
	damaged, err := f.config.Repository.DamagedPoints(ctx)
	if err != nil {
		return nil, err
	}
	if damaged[reader.Point().ID] {
		return nil, holdfast.Errorf(holdfast.KindCorrupt, "the restore point %s is damaged", reader.Point().ID).WithField("point").
			WithHint("restore another one (holdfast repo points shows which are whole); the next backup of the machine writes again what its disks still hold; disks that are not hit can be exported")
	}
	p := &planner{flow: f, point: reader.Point(), name: name}
	if p.source, err = readSource(p.point); err != nil {
		return nil, err
	}
	if p.group, err = p.targetGroup(group); err != nil {
		return nil, err
	}
	if _, err := f.config.Cloud.GroupLocation(ctx, p.group.Subscription(), p.group.ResourceGroup()); err != nil {
		return nil, err
	}
	p.location = p.source.vm.text("location")
	return p, nil
}

// targetGroup turns a name or an id into the id of a resource group.
func (p *planner) targetGroup(group string) (holdfast.ResourceID, error) {
	subscription := p.point.VM.Subscription()
	switch {
	case group == "":
		group = p.point.VM.ResourceGroup()
	case strings.HasPrefix(group, "/"):
		id := holdfast.ResourceID(strings.TrimSuffix(group, "/"))
		if parts := strings.Split(string(id), "/"); len(parts) != 5 || !strings.EqualFold(parts[1], "subscriptions") || !strings.EqualFold(parts[3], "resourceGroups") {
			return "", holdfast.Errorf(holdfast.KindInvalid, "%q is not the id of a resource group", group).WithField("resourceGroup").
				WithHint("write it as /subscriptions/<id>/resourceGroups/<name>, or give the name alone")
		}
		return id, nil
	case strings.Contains(group, "/"):
		return "", holdfast.Errorf(holdfast.KindInvalid, "%q is not the name of a resource group", group).WithField("resourceGroup")
	}
	return holdfast.ResourceID("/subscriptions/" + subscription + "/resourceGroups/" + group), nil
}

func (p *planner) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

// chooseSubnet checks the subnet; its network's region is where the machine will be.
func (p *planner) chooseSubnet(ctx context.Context, wanted holdfast.ResourceID) (holdfast.ResourceID, error) {
	subnet := wanted
	if subnet == "" {
		subnet = p.source.subnet
	}
	if subnet == "" {
		return "", holdfast.Errorf(holdfast.KindInvalid, "the backup does not say which subnet the machine was in").WithField("subnet").
			WithHint("name one with --subnet")
	}
	at := strings.Index(strings.ToLower(string(subnet)), "/subnets/")
	if _, err := holdfast.ParseResourceID(string(subnet)); err != nil || at < 0 || !strings.EqualFold(subnet.Type(), "Microsoft.Network/virtualNetworks/subnets") {
		return "", holdfast.Errorf(holdfast.KindInvalid, "%q is not the id of a subnet", subnet).WithField("subnet").
			WithHint("write it as /subscriptions/…/virtualNetworks/<name>/subnets/<name>")
	}
	network, err := p.flow.config.Cloud.Resource(ctx, subnet[:at])
	if err == nil {
		_, err = p.flow.config.Cloud.Resource(ctx, subnet)
	}
	if holdfast.IsKind(err, holdfast.KindNotFound) {
		return "", holdfast.Wrap(holdfast.KindNotFound, err, "there is no subnet %s", subnet).WithField("subnet").
			WithHint("name one that exists with --subnet")
	}
	if err != nil {
		return "", err
	}
	if network.Location != "" && !strings.EqualFold(network.Location, p.location) {
		p.note("the machine moves from %s to %s, the region of its subnet", p.location, network.Location)
		p.location, p.moved = network.Location, true
	}
	return subnet, nil
}

// chooseSize checks that the size exists, is allowed, fits the disks, and that the quota has room for it.
func (p *planner) chooseSize(ctx context.Context, wanted string) (machine.Size, error) {
	if wanted == "" {
		wanted = p.source.vm.text("properties", "hardwareProfile", "vmSize")
	}
	cloud, subscription := p.flow.config.Cloud, p.group.Subscription()
	size, err := cloud.Size(ctx, subscription, p.location, wanted)
	if err != nil {
		return size, err
	}
	refuse := func(format string, args ...any) error {
		return holdfast.Errorf(holdfast.KindRefused, format, args...).WithField("size").WithHint("choose another size with --size")
	}
	premium := slices.IndexFunc(p.point.Disks, func(d holdfast.PointDisk) bool { return strings.HasPrefix(d.SKU, "Premium") || isUltra(d.SKU) })
	switch {
	case size.Restricted != "":
		return size, refuse("the size %s is not available to this subscription in %s (%s)", size.Name, p.location, size.Restricted)
	case size.MaxDataDisks > 0 && len(p.point.Disks)-1 > size.MaxDataDisks:
		return size, refuse("the size %s takes %d data disks, the machine has %d", size.Name, size.MaxDataDisks, len(p.point.Disks)-1)
	case premium >= 0 && !size.PremiumDisks:
		return size, refuse("the size %s takes no premium disks, and the disk %s is one", size.Name, p.point.Disks[premium].Name)
	}
	usages, err := cloud.Usages(ctx, subscription, p.location)
	if err != nil {
		return size, err
	}
	for _, u := range usages {
		counts := strings.EqualFold(u.Name, "cores") || size.Family != "" && strings.EqualFold(u.Name, size.Family)
		if counts && u.Current+int64(size.Cores) > u.Limit {
			return size, holdfast.Errorf(holdfast.KindRefused, "the quota %s of %s is %d vCPUs, %d are in use, and %s needs %d",
				u.Name, p.location, u.Limit, u.Current, size.Name, size.Cores).WithField("size").
				WithHint("ask Azure for a higher quota in this region, or choose a smaller size with --size")
		}
	}
	return size, nil
}

func isUltra(sku string) bool {
	return strings.HasPrefix(sku, "UltraSSD") || strings.HasPrefix(sku, "PremiumV2")
}

// chooseZone keeps the source's zone where the size is offered there.
func (p *planner) chooseZone(size machine.Size) string {
	zone := p.source.zone()
	if zone != "" && !slices.Contains(size.Zones, zone) {
		p.note("zone %s is not kept: %s does not offer %s there", zone, p.location, size.Name)
		return ""
	}
	return zone
}

// checkLocks refuses a group in which nothing can be created, and tells about one in which nothing can be removed.
func (p *planner) checkLocks(ctx context.Context) error {
	locks, err := p.flow.config.Cloud.Locks(ctx, p.group.Subscription())
	if holdfast.IsKind(err, holdfast.KindRefused) {
		return nil // who may not read locks finds out about one from the request that it refuses
	}
	if err != nil {
		return err
	}
	for _, lock := range locks {
		switch {
		case !lock.Covers(p.group):
		case lock.ReadOnly():
			return holdfast.Errorf(holdfast.KindRefused, "the lock %s on %s is read-only: nothing can be created there", lock.Name, lock.Scope).
				WithField("resourceGroup").WithHint("remove the lock, or restore into another resource group")
		default:
			p.note("the lock %s on %s forbids removing: if the restore fails, what it made has to be removed by hand", lock.Name, lock.Scope)
		}
	}
	return nil
}

// checkNames refuses names that are held by others. What an unfinished restore left is for Run to remove.
func (f *Flow) checkNames(ctx context.Context, plan Plan) error {
	r, err := f.newRun(plan)
	if err != nil {
		return err
	}
	found, err := r.find(ctx)
	if err != nil {
		return err
	}
	for _, resource := range found {
		if !unfinished(resource) {
			return taken(resource)
		}
	}
	return nil
}

func allLUNs(point holdfast.Point) []holdfast.LUN {
	var luns []holdfast.LUN
	for _, d := range point.Disks {
		luns = append(luns, d.LUN)
	}
	return luns
}
