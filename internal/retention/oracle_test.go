package retention_test

import (
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// oracle states the rules of doc/policies.md one by one, each over all points, without regard to speed. It shares with the engine
// the nouns and the calendar alone.
type oracle struct {
	now      time.Time
	occasion retention.Occasion
	rules    retention.Rules
	points   []retention.Point
}

// fate is what the oracle says of a point.
type fate struct {
	keep  bool
	flags holdfast.Flags
}

func (o oracle) fate(p retention.Point) fate { return fate{o.stays(p), o.flagsAfter(p)} }

func (o oracle) protected() bool { return o.rules.Protected && !o.rules.Gone }

// ordinary points are restore points that belong to a policy.
func ordinary(p retention.Point) bool { return !p.Manual && !p.Temporary }

func newer(a, b retention.Point) bool {
	order := map[holdfast.PointKind]int{snapshot: 0, archive: 1, backup: 2}
	switch {
	case !a.Created.Equal(b.Created):
		return a.Created.After(b.Created)
	case a.Kind != b.Kind:
		return order[a.Kind] > order[b.Kind]
	}
	return a.ID > b.ID
}

func (o oracle) zone() *time.Location {
	if o.rules.Zone != nil {
		return o.rules.Zone
	}
	return time.UTC
}

// limitOf is the row of the policy, else what is stored.
func (o oracle) limitOf(p retention.Point, flag holdfast.Flag) (retention.Limit, *time.Location) {
	for _, r := range o.rules.Rows {
		if o.protected() && r.Kind == p.Kind && r.Flag == flag {
			return r.Keep, o.zone()
		}
	}
	stored := map[holdfast.Flag]retention.Limit{holdfast.Daily: p.Keep.Daily, holdfast.Weekly: p.Keep.Weekly, holdfast.Monthly: p.Keep.Monthly, holdfast.Yearly: p.Keep.Yearly}[flag]
	if !o.protected() && p.Keep.Zone.Location != nil {
		return stored, p.Keep.Zone.Location
	}
	return stored, o.zone()
}

// exceeds says whether a point that bears a flag, or is treated as if, loses it on this occasion.
func (o oracle) exceeds(p retention.Point, flag holdfast.Flag) bool {
	limit, zone := o.limitOf(p, flag)
	if limit == (retention.Limit{}) {
		return false
	}
	if !limit.Counted {
		return o.occasion&retention.DailyPass != 0 && o.now.After(civil.Add(p.Created, limit.For, zone))
	}
	bearers := 0
	for _, q := range o.points {
		if q.Kind == p.Kind && q.Good && ordinary(q) && q.Flags.Has(flag) && newer(q, p) {
			bearers++
		}
	}
	return o.occasion&retention.Closing != 0 && bearers >= limit.Count
}

func (o oracle) flagsAfter(p retention.Point) holdfast.Flags {
	if !ordinary(p) {
		return 0
	}
	after := p.Flags
	for _, flag := range holdfast.AllFlags() {
		if p.Flags.Has(flag) && o.exceeds(p, flag) {
			after = after.Without(flag)
		}
	}
	return after
}

// likeOne says whether a point of a person's start stays by the most frequent schedule.
func (o oracle) likeOne(p retention.Point) bool {
	if !ordinary(p) || p.Flags != 0 || !p.Slot.IsZero() || p.Outdated {
		return false
	}
	flag := p.Like
	for _, stored := range []bool{false, true} {
		for _, f := range holdfast.AllFlags() {
			if flag != 0 {
				break
			}
			for _, r := range o.rules.Rows {
				if !stored && o.protected() && r.Kind == p.Kind && r.Flag == f {
					flag = f
				}
			}
			if limit, _ := (oracle{rules: retention.Rules{}}).limitOf(p, f); stored && limit != (retention.Limit{}) {
				flag = f
			}
		}
	}
	return flag == 0 || !o.exceeds(p, flag)
}

func (o oracle) byFlags(p retention.Point) bool { return o.flagsAfter(p) != 0 || o.likeOne(p) }

func (o oracle) base(p retention.Point) bool {
	return p.Base && p.Kind == snapshot && !o.rules.Gone
}

// overAge says whether a global age is over.
func (o oracle) overAge(p retention.Point) bool {
	past := func(age holdfast.Period) bool {
		return !age.IsZero() && o.now.After(civil.Add(p.Created, age, time.UTC))
	}
	switch {
	case p.Manual || o.occasion&retention.DailyPass == 0:
		return false
	case p.Kind == snapshot:
		return past(o.rules.Settings.SnapshotAge) || !o.protected() && past(o.rules.Settings.ObsoleteAge)
	}
	return p.Kind == backup && !o.protected() && past(o.rules.Settings.UnprotectedAge)
}

// lastGood says whether no other point could take this one's place.
func (o oracle) lastGood(p retention.Point) bool {
	counts := func(q retention.Point) bool {
		baseAlone := o.base(q) && !o.byFlags(q)
		return q.Good && ordinary(q) && !baseAlone && (!o.protected() || q.Kind == p.Kind) && (o.protected() || !o.overAge(q))
	}
	for _, q := range o.points {
		if counts(q) && newer(q, p) {
			return false
		}
	}
	return counts(p)
}

func (o oracle) stays(p retention.Point) bool {
	locked := !p.LockedUntil.IsZero() && !o.now.After(p.LockedUntil)
	if locked || p.Manual {
		return true
	}
	if o.overAge(p) && !(o.protected() && (o.base(p) || o.lastGood(p))) {
		return false
	}
	return o.byFlags(p) || o.base(p) || o.lastGood(p)
}
