package document

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

const (
	targetDefault     = 97 // percent
	graceDefault      = time.Hour
	graceMax          = 24 * time.Hour // a window belongs to its day, and so does what it asks for
	proofLevelDefault = 2
	proofLevelMax     = 5
	proofDaysDefault  = 30
)

// Frequencies that a daily row of an SLA template may have: those that divide an hour or a day evenly.
var (
	minutesAccepted = []int{5, 10, 15, 20, 30}
	hoursAccepted   = []int{1, 2, 3, 4, 6, 8, 12, 24}
)

// windowFields is a window, written as 22:00-06:00 or as a mapping of from and to.
type windowFields struct {
	From *holdfast.TimeOfDay `yaml:"from,required"`
	To   *holdfast.TimeOfDay `yaml:"to,required"`
}

// MarshalText implements encoding.TextMarshaler.
func (w windowFields) MarshalText() ([]byte, error) {
	return []byte(holdfast.Window{Opens: *w.From, Closes: *w.To}.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (w *windowFields) UnmarshalText(text []byte) error {
	opens, closes, ok := strings.Cut(string(text), "-")
	var from, to holdfast.TimeOfDay
	if !ok || from.UnmarshalText([]byte(strings.TrimSpace(opens))) != nil || to.UnmarshalText([]byte(strings.TrimSpace(closes))) != nil {
		return holdfast.Errorf(holdfast.KindInvalid, "%q is not a window", text).
			WithHint("write 22:00-06:00, or from and to with a time each; equal ends mean 24 hours")
	}
	w.From, w.To = &from, &to
	return nil
}

func (p *page) slaTemplate(f slaTemplateFields) holdfast.SLATemplate {
	t := holdfast.SLATemplate{
		Name: f.Name, Description: f.Description, ChangedRanges: orDefault(f.ChangedRanges, true), TargetPercent: orDefault(f.Target, targetDefault),
		Grace: p.grace(f.Grace), ProofLevel: proofLevelDefault, ProofAge: holdfast.Days(proofDaysDefault),
	}
	if t.TargetPercent < 0 || t.TargetPercent > 100 {
		p.wrong("target", "a percentage from 0 to 100", "%g is out of range", t.TargetPercent)
	}
	if f.Proof != nil {
		t.ProofLevel, t.ProofAge = p.proof(*f.Proof)
	}
	snapshots, backups := p.slaRows("snapshots", f.Snapshots), p.slaRows("backups", f.Backups)
	t.SnapshotWindow, t.BackupWindow = windowOf(f.Snapshots), windowOf(f.Backups)
	t.Rows = slices.Concat(snapshots, backups, p.slaArchives(f.Archives))
	if h := f.HealthCheck; h != nil {
		t.HealthCheck = p.healthCheck(&healthCheckFields{On: h.On, Months: h.Months})
	}
	if f.Snapshots == nil && f.Backups == nil && f.Archives == nil {
		p.wrong("", "snapshots or backups with a daily, weekly or monthly row", "the template asks for nothing")
	}
	if f.Archives != nil && len(backups) == 0 {
		p.wrong("archives", "backups with a daily, weekly or monthly row beside it", "nothing feeds the archives: the template makes no backups")
	}
	if f.HealthCheck != nil && len(backups) == 0 {
		p.wrong("healthCheck", "a health check where backups are made", "there are no backups to check")
	}
	if !p.broken {
		p.checkTemplateSnapshots(t)
	}
	return t
}

func (p *page) grace(given *holdfast.Period) time.Duration {
	if given == nil {
		return graceDefault
	}
	length, ok := given.Duration()
	if !ok || length > graceMax {
		p.wrong("grace", "minutes or hours, 24 hours at the most", "%q is not a grace", given.String())
	}
	return length
}

func (p *page) proof(f proofFields) (level int, age holdfast.Period) {
	level, age = orDefault(f.Level, proofLevelDefault), orDefault(f.Within, holdfast.Days(proofDaysDefault))
	if level < 1 || level > proofLevelMax {
		p.wrong("proof.level", fmt.Sprintf("a level from 1 to %d", proofLevelMax), "%d is not a level of proof that can be asked for", level)
	}
	if age.Unit != holdfast.UnitDay {
		p.wrong("proof.within", "a number of days", "%q is not an age of proofs", age)
	}
	return level, age
}

func windowOf(f *slaRowsFields) holdfast.Window {
	if f == nil || f.Window == nil || f.Window.From == nil || f.Window.To == nil {
		return holdfast.Window{}
	}
	return holdfast.Window{Opens: *f.Window.From, Closes: *f.Window.To}
}

// slaRows makes the rows of snapshots or backups; where is the name of their block.
func (p *page) slaRows(where string, f *slaRowsFields) []holdfast.SLARow {
	if f == nil {
		return nil
	}
	kind := holdfast.PointSnapshot
	if where == "backups" {
		kind = holdfast.PointBackup
	}
	if f.Daily == nil && f.Weekly == nil && f.Monthly == nil {
		p.wrong(where, "daily, weekly or monthly; leave "+where+" out to make none", "asks for nothing")
	}
	var rows []holdfast.SLARow
	if d := f.Daily; d != nil {
		p.checkEvery(where+".daily.every", kind, d.Every)
		p.checkKeep(where+".daily.keep", d.Keep, holdfast.UnitDay, holdfast.UnitMonth)
		rows = append(rows, holdfast.SLARow{Flag: holdfast.Daily, Kind: kind, Every: d.Every, KeepFor: d.Keep})
	}
	if w := f.Weekly; w != nil {
		days := p.weekdays(where+".weekly.days", w.Days)
		p.wantSome(where+".weekly.days", len(w.Days), "days")
		p.checkKeep(where+".weekly.keep", w.Keep, holdfast.UnitDay, holdfast.UnitMonth)
		rows = append(rows, holdfast.SLARow{Flag: holdfast.Weekly, Kind: kind, Days: days, KeepFor: w.Keep})
	}
	if m := f.Monthly; m != nil {
		rows = append(rows, p.slaMonthly(where+".monthly", kind, *m))
	}
	return rows
}

func (p *page) slaMonthly(where string, kind holdfast.PointKind, f slaMonthlyFields) holdfast.SLARow {
	p.checkOn(where+".on", f.On)
	months := p.months(where+".months", f.Months)
	p.wantSome(where+".months", len(f.Months), "months")
	p.checkKeep(where+".keep", f.Keep, holdfast.UnitMonth, holdfast.UnitYear)
	return holdfast.SLARow{Flag: holdfast.Monthly, Kind: kind, Months: months, On: f.On, KeepFor: f.Keep}
}

func (p *page) slaArchives(f *slaMonthlyFields) []holdfast.SLARow {
	if f == nil {
		return nil
	}
	if on := f.On; on.Ordinal != "" || on.Day != 1 && on.Day != holdfast.LastDay {
		p.wrong("archives.on", "day 1 or last day", "archives are made on the first or the last day of a month, not on %q", on)
	}
	return []holdfast.SLARow{p.slaMonthly("archives", holdfast.PointArchive, *f)}
}

func (p *page) checkEvery(where string, kind holdfast.PointKind, every holdfast.Period) {
	hourly := every.Unit == holdfast.UnitHour && slices.Contains(hoursAccepted, every.N)
	switch {
	case hourly:
	case kind == holdfast.PointBackup:
		p.wrong(where, "1, 2, 3, 4, 6, 8, 12 or 24 hours", "backups cannot be made every %q", every)
	case every.Unit != holdfast.UnitMinute || !slices.Contains(minutesAccepted, every.N):
		p.wrong(where, "5, 10, 15, 20 or 30 minutes, or 1, 2, 3, 4, 6, 8, 12 or 24 hours", "snapshots cannot be made every %q", every)
	}
}

func (p *page) storageTemplate(f storageTemplateFields) holdfast.StorageTemplate {
	t := holdfast.StorageTemplate{
		Name: f.Name, Description: f.Description, Backups: p.placement("backups", f.Backups), Archives: p.placement("archives", f.Archives),
	}
	if f.Backups == nil {
		p.wrong("backups", "a place for backups; an SLA policy that makes snapshots alone needs no storage template", "missing")
	}
	return t
}

func (p *page) placement(where string, f *placementFields) holdfast.Placement {
	if f == nil {
		return holdfast.Placement{}
	}
	if f.Default == "" && len(f.Regions) == 0 {
		p.wrong(where, "default, or regions with a repository each", "names no repository")
	}
	for _, region := range sortedKeys(f.Regions) {
		p.checkRegion(where+".regions."+region, region)
		if f.Regions[region] == "" {
			p.wrong(where+".regions."+region, "the name of a repository", "names no repository")
		}
	}
	return holdfast.Placement{Default: f.Default, Regions: f.Regions}
}

func (p *page) slaPolicy(f slaPolicyFields) holdfast.SLAPolicy {
	return holdfast.SLAPolicy{
		PolicyCommon: withNotify(p.common(f.header, f.policyFields), p.slaNotify(f.Notify)), Template: f.SLATemplate, Storage: f.StorageTemplate,
	}
}

func withNotify(c holdfast.PolicyCommon, n holdfast.PolicyNotification) holdfast.PolicyCommon {
	c.Notify = n
	return c
}
