package document

import (
	"fmt"
	"slices"

	"github.com/holdfast-backup/holdfast"
)

// checkTogether holds the documents of a set against one another.
func (r *reader) checkTogether(d holdfast.Documents) {
	for _, e := range r.schedulePolicies {
		e.page.checkSchedulePolicy(d, e.noun)
	}
	for _, e := range r.storageTemplates {
		e.page.checkStorageTemplate(d, e.noun)
	}
	for _, e := range r.slaPolicies {
		e.page.checkSLAPolicy(d, e.noun)
	}
}

// blockOf is where the row of a schedule stands in its document.
func blockOf(row holdfast.ScheduleRow) string { return fmt.Sprintf("%s.%ss", row.Flag, row.Kind) }

func (p *page) checkSchedulePolicy(d holdfast.Documents, policy holdfast.SchedulePolicy) {
	backups := false
	for _, row := range policy.Rows {
		backups = backups || row.Kind == holdfast.PointBackup
		if row.Kind != holdfast.PointSnapshot {
			if spec, ok := p.repositoryFor(d, blockOf(row)+".repository", row.Kind, row.Repository); ok {
				p.checkAge(blockOf(row)+".keep", spec, row.KeepFor)
			}
		}
		if row.Kind == holdfast.PointArchive {
			p.checkFeeding(d, policy, row)
		}
	}
	p.checkScheduleSnapshots(policy)
	p.noteSingles(policy.Rows)
	if policy.HealthCheck != nil && !backups {
		p.wrong("healthCheck", "a health check where backups are made", "there are no backups to check")
	}
}

// repositoryFor returns the repository of a name, where it is one that takes points of a kind.
func (p *page) repositoryFor(d holdfast.Documents, where string, kind holdfast.PointKind, name string) (holdfast.RepositorySpec, bool) {
	spec, ok := d.Repository(name)
	if !ok {
		p.checkReference(where, KindRepository, name)
		return spec, false
	}
	switch archive := spec.Tier == holdfast.TierArchive; {
	case archive && kind != holdfast.PointArchive:
		p.wrong(where, "a repository of tier hot, cool, cold or inferred", "%q is of tier archive, which takes archives alone", name)
		return spec, false
	case !archive && kind == holdfast.PointArchive:
		p.wrong(where, "a repository of tier archive", "%q is of tier %s, which takes no archives", name, spec.Tier)
		return spec, false
	}
	return spec, true
}

// checkReference refuses a name that no document of the set bears. A document that is there and wrong is told by itself.
func (p *page) checkReference(where, kind, name string) {
	if p.reader.names[kind][name] != nil {
		return
	}
	accepted := fmt.Sprintf("the name of a document of kind %s; there is none", kind)
	if names := sortedKeys(p.reader.names[kind]); len(names) > 0 {
		accepted = "one of " + list(names)
	}
	p.wrong(where, accepted, "there is no %s %q", kind, name)
}

// Days that a tier bills at least, whatever is removed before.
const (
	coolDays    = 30
	coldDays    = 90
	archiveDays = 180
)

// lockDaysMax is how long a retention may be that objects are locked for: a century, less what a lock may outlive it by.
const lockDaysMax = 36_490

// checkAge warns of a retention that ends before its tier's minimum, and refuses one that no lock reaches.
func (p *page) checkAge(where string, spec holdfast.RepositorySpec, keep holdfast.Period) {
	if spec.Immutable && daysAtMost(keep) > lockDaysMax {
		p.wrong(where, fmt.Sprintf("%d days at the most", lockDaysMax), "what is kept for %s in %q cannot be locked for so long", keep, spec.Name)
	}
	minimum := map[holdfast.Tier]int{holdfast.TierCool: coolDays, holdfast.TierCold: coldDays, holdfast.TierArchive: archiveDays}[spec.Tier]
	if days := daysAtLeast(keep); days < minimum {
		p.warning(where, "%s in tier %s (%s): what goes before %d days is billed as if it had stayed", keep, spec.Tier, spec.Name, minimum)
	}
}

// daysAtLeast is the length of a period in days where its months are short.
func daysAtLeast(keep holdfast.Period) int {
	switch keep.Unit {
	case holdfast.UnitMonth:
		return keep.N * 30
	case holdfast.UnitYear:
		return keep.N * 365
	case holdfast.UnitDay, holdfast.UnitHour, holdfast.UnitMinute:
	}
	return keep.N
}

// checkFeeding wants a more frequent schedule whose backups an archive is made from, in a repository that is encrypted if
// and only if the archive's is: what was written in secret is not read back to be kept in the open.
func (p *page) checkFeeding(d holdfast.Documents, policy holdfast.SchedulePolicy, archive holdfast.ScheduleRow) {
	fed, paired := false, false
	target, known := d.Repository(archive.Repository)
	for _, row := range policy.Rows {
		if row.Kind != holdfast.PointBackup || row.Flag >= archive.Flag {
			continue
		}
		fed = true
		source, ok := d.Repository(row.Repository)
		paired = paired || !ok || !known || source.Encrypted == target.Encrypted
	}
	switch {
	case !fed:
		p.wrong(blockOf(archive), "backups of a more frequent schedule", "nothing feeds the archives: no more frequent schedule makes backups")
	case !paired:
		p.wrong(blockOf(archive)+".repository", "repositories that are both encrypted, or both not",
			"%q is %s, and no more frequent schedule has its backups in a repository that is, too", archive.Repository, encryptedOrNot(target))
	}
}

func encryptedOrNot(spec holdfast.RepositorySpec) string {
	if spec.Encrypted {
		return "encrypted"
	}
	return "not encrypted"
}

func (p *page) checkStorageTemplate(d holdfast.Documents, t holdfast.StorageTemplate) {
	for _, part := range []struct {
		where string
		kind  holdfast.PointKind
		place holdfast.Placement
	}{{"backups", holdfast.PointBackup, t.Backups}, {"archives", holdfast.PointArchive, t.Archives}} {
		if part.place.Default != "" {
			p.repositoryFor(d, part.where+".default", part.kind, part.place.Default)
		}
		for _, region := range sortedKeys(part.place.Regions) {
			p.repositoryFor(d, part.where+".regions."+region, part.kind, part.place.Regions[region])
		}
	}
	p.checkPair(d, t, "", "archives.default")
	for _, region := range sortedKeys(t.Archives.Regions) {
		p.checkPair(d, t, region, "archives.regions."+region)
	}
	for _, region := range sortedKeys(t.Backups.Regions) {
		if t.Archives.Regions[region] == "" {
			p.checkPair(d, t, region, "backups.regions."+region)
		}
	}
}

// checkPair wants the repositories of one region, "" being all that are not named, to be both encrypted or both not.
func (p *page) checkPair(d holdfast.Documents, t holdfast.StorageTemplate, region, where string) {
	source, sourceKnown := d.Repository(t.Backups.In(region))
	target, targetKnown := d.Repository(t.Archives.In(region))
	if sourceKnown && targetKnown && source.Encrypted != target.Encrypted {
		p.wrong(where, "repositories that are both encrypted, or both not",
			"archives in %q, which is %s, would be made from backups in %q, which is %s", target.Name, encryptedOrNot(target), source.Name, encryptedOrNot(source))
	}
}

func (p *page) checkSLAPolicy(d holdfast.Documents, policy holdfast.SLAPolicy) {
	template, ok := d.SLATemplate(policy.Template)
	if !ok {
		p.checkReference("slaTemplate", KindSLATemplate, policy.Template)
		return
	}
	storage, ok := d.StorageTemplate(policy.Storage)
	if policy.Storage != "" && !ok {
		p.checkReference("storageTemplate", KindStorageTemplate, policy.Storage)
		return
	}
	for _, kind := range []holdfast.PointKind{holdfast.PointBackup, holdfast.PointArchive} {
		if p.checkPlace(policy, template, storage, kind) {
			p.checkTemplateAges(d, policy, template, placeOf(storage, kind), kind)
		}
	}
}

func placeOf(t holdfast.StorageTemplate, kind holdfast.PointKind) holdfast.Placement {
	if kind == holdfast.PointArchive {
		return t.Archives
	}
	return t.Backups
}

// checkTemplateAges warns of what the template keeps shorter than the tiers of the policy's repositories bill.
func (p *page) checkTemplateAges(d holdfast.Documents, policy holdfast.SLAPolicy, template holdfast.SLATemplate, place holdfast.Placement, kind holdfast.PointKind) {
	told := map[string]bool{}
	for _, region := range policy.Sources.Regions {
		spec, ok := d.Repository(place.In(region))
		if !ok || told[spec.Name] {
			continue
		}
		told[spec.Name] = true
		for _, row := range template.Rows {
			if row.Kind == kind {
				p.checkAge("slaTemplate", spec, row.KeepFor)
			}
		}
	}
}

// checkPlace wants a place for what the template makes of a kind, in each region of the policy. It returns false when the
// template makes none, or there is no place.
func (p *page) checkPlace(policy holdfast.SLAPolicy, template holdfast.SLATemplate, storage holdfast.StorageTemplate, kind holdfast.PointKind) bool {
	if !slices.ContainsFunc(template.Rows, func(row holdfast.SLARow) bool { return row.Kind == kind }) {
		return false
	}
	if policy.Storage == "" {
		p.wrong("storageTemplate", "the name of a storage template", "missing: the SLA template %q makes %ss", template.Name, kind)
		return false
	}
	place, all := placeOf(storage, kind), true
	for _, region := range policy.Sources.Regions {
		if place.In(region) == "" {
			all = false
			p.wrong("storageTemplate", "a storage template with a place for them", "the SLA template %q makes %ss, and the storage template %q has no place for those of %s",
				template.Name, kind, storage.Name, region)
		}
	}
	return all
}
