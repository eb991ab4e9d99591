package plan

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// Machine is a virtual machine under a policy.
type Machine struct {
	ID     holdfast.ResourceID
	Region string
	key    string // ID.Key, for those of an estate
}

// Key is the form of the id under which State.Working knows the machine.
func (m Machine) Key() string {
	if m.key == "" {
		return m.ID.Key()
	}
	return m.key
}

// Estate is what people intend: the policies with the machines that they protect, and the settings they share.
type Estate struct {
	policies []policy
	settings retention.Settings
}

// policy is a policy ready to be decided on.
type policy struct {
	holdfast.PolicyCommon
	kind     holdfast.PolicyKind
	machines []Machine // sorted by id
	// Of schedule-based policies:
	schedule *holdfast.SchedulePolicy
	zone     *time.Location
	// Of SLA policies:
	storage holdfast.StorageTemplate
	regions []region
	tracked map[holdfast.PointKind]rows // by slotKinds
	checks  holdfast.SLATemplate        // asks for health checks
}

// rows are the rows of an SLA template that one track is made of.
type rows struct {
	all  holdfast.SLATemplate // those of the kind, and of archives beside backups
	rare holdfast.SLATemplate // of these, the ones that take the first point of a window: all but daily ones
}

// region is the part of an SLA policy in one Azure region, whose zone its windows are evaluated in.
type region struct {
	name     string
	zone     *time.Location
	machines []Machine
}

// New makes an estate of documents and of who protects whom: protects returns the machines of a policy, in any order. The
// documents are checked ones; a zone that cannot be loaded or a region without a zone is an error of KindInvalid.
func New(d holdfast.Documents, protects func(policy string) []Machine) (Estate, error) {
	settings, err := retention.SettingsOf(d.Installation)
	if err != nil {
		return Estate{}, err
	}
	e := Estate{settings: settings}
	for _, s := range d.SLAPolicies {
		p, err := newSLA(d, s, sorted(protects(s.Name)))
		if err != nil {
			return Estate{}, err
		}
		e.policies = append(e.policies, p)
	}
	for _, s := range d.SchedulePolicies {
		p := policy{PolicyCommon: s.PolicyCommon, kind: holdfast.PolicySchedule, schedule: &s, machines: sorted(protects(s.Name))}
		if p.zone, err = ZoneOf(s, settings.Zone); err != nil {
			return Estate{}, err
		}
		e.policies = append(e.policies, p)
	}
	return e, nil
}

func newSLA(d holdfast.Documents, s holdfast.SLAPolicy, machines []Machine) (policy, error) {
	p := policy{PolicyCommon: s.PolicyCommon, kind: holdfast.PolicySLA, machines: machines}
	template, known := d.SLATemplate(s.Template)
	if !known {
		return policy{}, holdfast.Errorf(holdfast.KindInvalid, "the policy %q uses an SLA template %q that does not exist", s.Name, s.Template).WithField("template")
	}
	if p.storage, known = d.StorageTemplate(s.Storage); !known && s.Storage != "" {
		return policy{}, holdfast.Errorf(holdfast.KindInvalid, "the policy %q uses a storage template %q that does not exist", s.Name, s.Storage).WithField("storage")
	}
	p.tracked, p.checks = tracked(template), template
	byRegion := map[string][]Machine{}
	for _, m := range machines {
		byRegion[m.Region] = append(byRegion[m.Region], m)
	}
	for _, name := range slices.Sorted(maps.Keys(byRegion)) {
		inside := byRegion[name]
		zone, err := ZoneOfRegion(name)
		if err != nil {
			return policy{}, holdfast.Errorf(holdfast.KindInvalid, "the policy %q protects the machine %s in the region %q, whose time zone is not known", s.Name, inside[0].ID, name).
				WithField("regions").WithHint(regionHint)
		}
		p.regions = append(p.regions, region{name: name, zone: zone, machines: inside})
	}
	return p, nil
}

// tracked parts the rows of a template into those of each track.
func tracked(template holdfast.SLATemplate) map[holdfast.PointKind]rows {
	with := func(wanted func(holdfast.SLARow) bool) holdfast.SLATemplate {
		part := template
		part.Rows = slices.DeleteFunc(slices.Clone(template.Rows), func(r holdfast.SLARow) bool { return !wanted(r) })
		return part
	}
	parts := map[holdfast.PointKind]rows{}
	for _, kind := range slotKinds {
		belongs := func(r holdfast.SLARow) bool {
			return r.Kind == kind || kind == holdfast.PointBackup && r.Kind == holdfast.PointArchive
		}
		parts[kind] = rows{
			all:  with(belongs),
			rare: with(func(r holdfast.SLARow) bool { return belongs(r) && r.Flag != holdfast.Daily }),
		}
	}
	return parts
}

// ZoneOf returns the zone in which a schedule-based policy is evaluated: its own, or that of the installation.
func ZoneOf(p holdfast.SchedulePolicy, installation *time.Location) (*time.Location, error) {
	if p.Zone == "" {
		return installation, nil
	}
	return civil.Zone(p.Zone)
}

// regionHint helps who wants SLA windows where it is not known what time it is.
const regionHint = "SLA windows are evaluated in the region's zone; use a schedule-based policy for machines there"

// ZoneOfRegion returns the zone in which SLA windows are evaluated for the machines of a region.
func ZoneOfRegion(name string) (*time.Location, error) {
	zone, known := schedule.RegionZone(name)
	if !known {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the time zone of the region %q is not known", name).WithField("regions").
			WithHint(regionHint)
	}
	return civil.Zone(zone)
}

func sorted(machines []Machine) []Machine {
	machines = slices.Clone(machines)
	for i := range machines {
		machines[i].key = machines[i].ID.Key()
	}
	slices.SortFunc(machines, func(a, b Machine) int { return strings.Compare(a.key, b.key) })
	return machines
}

// Policies are the names of the policies in the order in which they are decided: those of kind SLA first, each kind by
// priority.
func (e Estate) Policies() []string {
	var names []string
	for _, p := range e.policies {
		names = append(names, p.Name)
	}
	return names
}

// PassAfter is when the next daily pass of retention is due.
func (e Estate) PassAfter(t time.Time) time.Time { return e.settings.NextPass(t) }
