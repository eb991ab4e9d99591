package retention_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// What is common is drawn by small numbers, which rapid prefers.

// drawLimit draws few and short limits, so that they are exceeded.
func drawLimit(t *rapid.T) retention.Limit {
	if rapid.Bool().Draw(t, "counted") {
		return retention.Newest(rapid.IntRange(0, 4).Draw(t, "count"))
	}
	return retention.Lasting(drawPeriod(t))
}

func drawPeriod(t *rapid.T) holdfast.Period {
	return rapid.SampledFrom([]holdfast.Period{holdfast.Days(1), holdfast.Days(3), holdfast.Days(10), holdfast.Months(1), holdfast.Years(1), holdfast.Hours(36)}).Draw(t, "period")
}

func drawZone(t *rapid.T) *time.Location {
	name := rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"}).Draw(t, "zone")
	zone, err := civil.Zone(name)
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

func drawFlags(t *rapid.T) holdfast.Flags {
	return holdfast.Flags(rapid.IntRange(0, 15).Draw(t, "flags"))
}

func drawKind(t *rapid.T) holdfast.PointKind {
	return rapid.SampledFrom([]holdfast.PointKind{snapshot, snapshot, backup, backup, archive}).Draw(t, "kind")
}

// drawMoment draws from March and April on a coarse grid, so that points are of one moment and limits are met exactly.
func drawMoment(t *rapid.T, name string) time.Time {
	return at("03-01 07:00").Add(time.Duration(rapid.IntRange(0, 120).Draw(t, name)) * 12 * time.Hour)
}

func drawPoint(t *rapid.T, n int) retention.Point {
	p := retention.Point{
		ID: holdfast.PointID(fmt.Sprint(n)), VM: "vm", Kind: drawKind(t), Policy: "shop", Created: drawMoment(t, "created"),
		Good: rapid.IntRange(0, 3).Draw(t, "good") < 3,
	}
	switch rapid.IntRange(0, 9).Draw(t, "sort") {
	case 7:
		p.Manual, p.Policy = true, ""
	case 8:
		p.Temporary, p.Slot = true, p.Created
	case 9: // started by a person
		p.Like = rapid.SampledFrom([]holdfast.Flag{0, holdfast.Daily, holdfast.Monthly}).Draw(t, "like")
		p.Outdated = rapid.Bool().Draw(t, "outdated")
	default:
		p.Slot, p.Flags = p.Created, drawFlags(t)
	}
	p.Base = p.Kind == snapshot && rapid.IntRange(0, 4).Draw(t, "base") == 4
	if rapid.IntRange(0, 4).Draw(t, "locked") == 4 {
		p.LockedUntil = drawMoment(t, "lockedUntil")
	}
	for _, flag := range holdfast.AllFlags() {
		if rapid.Bool().Draw(t, "stored") {
			p.Keep = p.Keep.With(flag, drawLimit(t))
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "storedZone") == 3 {
		p.Keep.Zone = retention.Zone{Location: drawZone(t)}
	}
	return p
}

func drawPoints(t *rapid.T) []retention.Point {
	points := make([]retention.Point, rapid.IntRange(0, 14).Draw(t, "points"))
	for i := range points {
		points[i] = drawPoint(t, i)
	}
	return points
}

func drawRules(t *rapid.T) retention.Rules {
	rules := retention.Rules{
		Protected: rapid.IntRange(0, 3).Draw(t, "protected") < 3, Gone: rapid.IntRange(0, 7).Draw(t, "gone") == 7, Zone: drawZone(t), Settings: settings(),
	}
	for _, kind := range []holdfast.PointKind{snapshot, backup, archive} {
		for _, flag := range holdfast.AllFlags() {
			if rapid.Bool().Draw(t, "row") {
				rules.Rows = append(rules.Rows, row(kind, flag, drawLimit(t)))
			}
		}
	}
	for _, age := range []*holdfast.Period{&rules.Settings.ObsoleteAge, &rules.Settings.SnapshotAge, &rules.Settings.UnprotectedAge} {
		if rapid.IntRange(0, 2).Draw(t, "global") == 2 {
			*age = drawPeriod(t)
		}
	}
	return rules
}

func drawOccasion(t *rapid.T) retention.Occasion {
	return rapid.SampledFrom([]retention.Occasion{retention.Closing, retention.DailyPass, retention.BothOccasions}).Draw(t, "occasion")
}

// The engine says of every point what the slow rules say.
func TestExplain_Oracle(t *testing.T) {
	const machines = 8 // in each check, since what differs is rare
	rapid.Check(t, func(t *rapid.T) {
		for range machines {
			holdAgainst(t, oracle{drawMoment(t, "now"), drawOccasion(t), drawRules(t), drawPoints(t)})
		}
	})
}

func holdAgainst(t *rapid.T, o oracle) {
	verdicts := retention.Explain(o.now, o.occasion, o.rules, o.points)
	if len(verdicts) != len(o.points) {
		t.Fatalf("%d verdicts on %d points", len(verdicts), len(o.points))
	}
	for _, p := range o.points {
		v := verdictOn(verdicts, p)
		if got := (fate{v.Keep, v.Point.Flags}); got != o.fate(p) {
			t.Fatalf("%s: got %v, the rules say %v\n%+v\n%s", p.ID, got, o.fate(p), p, told(verdicts))
		}
	}
}

func verdictOn(verdicts []retention.Verdict, p retention.Point) retention.Verdict {
	i := slices.IndexFunc(verdicts, func(v retention.Verdict) bool { return v.Point.ID == p.ID })
	return verdicts[i]
}

// keeping are the causes that keep, of which a removed point has none.
func keeping(c retention.Cause) bool {
	switch c {
	case retention.CauseFlag, retention.CauseStarted, retention.CauseNoRule, retention.CauseBase, retention.CauseLastGood, retention.CauseLocked, retention.CauseManual:
		return true
	}
	return false
}

// Each verdict has reasons of its side, in words; verdicts do not depend on the order of the points; flags never return; and what was
// carried out is as it was said: asked again, nothing more goes.
func TestExplain_Laws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, occasion, rules, points := drawMoment(t, "now"), drawOccasion(t), drawRules(t), drawPoints(t)
		before := jsonOf(t, points)
		verdicts := retention.Explain(now, occasion, rules, points)
		if jsonOf(t, points) != before {
			t.Fatal("the points that were handed in are changed")
		}
		for _, v := range verdicts {
			if len(v.Reasons) == 0 {
				t.Fatalf("no reason\n%s", told(verdicts))
			}
			for _, r := range v.Reasons {
				if keeping(r.Cause) != v.Keep || r.Text() == "" || r.Text() == string(r.Cause) {
					t.Fatalf("reason %+v of %s\n%s", r, v.Point.ID, told(verdicts))
				}
			}
			if !v.Until.IsZero() && (!v.Keep || !v.Until.After(now)) {
				t.Fatalf("until %s\n%s", v.Until, told(verdicts))
			}
		}
		shuffled := rapid.Permutation(points).Draw(t, "order")
		if again := retention.Explain(now, occasion, rules, shuffled); jsonOf(t, again) != jsonOf(t, verdicts) {
			t.Fatalf("in another order\n%sinstead of\n%s", told(again), told(verdicts))
		}
		kept := retention.Kept(verdicts)
		again := retention.Explain(now, occasion, rules, kept)
		if jsonOf(t, retention.Kept(again)) != jsonOf(t, kept) {
			t.Fatalf("asked again\n%safter\n%s", told(again), told(verdicts))
		}
	})
}

// Until is the pass in which the point goes: with nothing but daily passes it is there until then, and then it is not, unless it has become
// the last good one. A point of which no date is told stays.
func TestExplain_Until(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now, rules, points := drawMoment(t, "now"), drawRules(t), drawPoints(t)
		said := retention.Explain(now, retention.BothOccasions, rules, points)
		points = retention.Kept(said)
		var verdicts []retention.Verdict
		for pass := rules.Settings.NextPass(now); pass.Before(now.AddDate(0, 4, 0)); pass = rules.Settings.NextPass(pass) {
			verdicts = retention.Explain(pass, retention.DailyPass, rules, points)
			for _, v := range verdicts {
				was := verdictOn(said, v.Point)
				early := !v.Keep && (was.Until.IsZero() || pass.Before(was.Until))
				late := v.Keep && !was.Until.IsZero() && !pass.Before(was.Until) && !isLastGood(v)
				if early || late {
					t.Fatalf("on %s\n%safter\n%s", pass, told(verdicts), told(said))
				}
			}
			points = retention.Kept(verdicts)
		}
	})
}

func isLastGood(v retention.Verdict) bool {
	return slices.ContainsFunc(v.Reasons, func(r retention.Reason) bool { return r.Cause == retention.CauseLastGood })
}

// history is a machine over time: what can happen to it, and what must never happen.
type history struct {
	t      *rapid.T
	now    time.Time
	rules  retention.Rules
	points []retention.Point
	made   int
}

// pass carries an occasion out and holds the promises against what it did.
func (h *history) pass(occasion retention.Occasion) {
	before := h.points
	verdicts := retention.Explain(h.now, occasion, h.rules, before)
	h.points = retention.Kept(verdicts)
	for _, p := range before {
		v := verdictOn(verdicts, p)
		switch {
		case !v.Keep && (p.Manual || !p.LockedUntil.IsZero() && !h.now.After(p.LockedUntil)):
			h.t.Fatalf("%s is gone, locked or made by hand\n%s", p.ID, told(verdicts))
		case v.Point.Flags&^p.Flags != 0:
			h.t.Fatalf("%s has flags that it had not\n%s", p.ID, told(verdicts))
		case !v.Keep && p.Base && !h.rules.Gone && h.rules.Protected:
			h.t.Fatalf("%s is gone, which the next backup needs\n%s", p.ID, told(verdicts))
		}
	}
	if !h.rules.Protected || h.rules.Gone {
		return
	}
	for _, kind := range []holdfast.PointKind{snapshot, backup, archive} {
		if restorable(before, kind) && !restorable(h.points, kind) {
			h.t.Fatalf("no good %s is left\n%s", kind, told(verdicts))
		}
	}
}

// restorable reports whether there is a good point of a kind that a policy made to restore from.
func restorable(points []retention.Point, kind holdfast.PointKind) bool {
	return slices.ContainsFunc(points, func(p retention.Point) bool { return p.Kind == kind && p.Good && ordinary(p) })
}

// session makes a point, often a bad one, moves the base on, and closes.
func (h *history) session(t *rapid.T) {
	h.made++
	p := drawPoint(t, 0)
	p.ID, p.Created, p.Base = holdfast.PointID(fmt.Sprintf("%06d", h.made)), h.now, false
	if !p.Slot.IsZero() {
		p.Slot = h.now
	}
	p = h.rules.Stamp(p)
	if p.Kind == snapshot && p.Good && !p.Manual && rapid.Bool().Draw(t, "feeds a backup") {
		for i := range h.points {
			h.points[i].Base = false
		}
		p.Base = true
	}
	h.points = append(h.points, p)
	if rapid.IntRange(0, 4).Draw(t, "killed") < 4 {
		h.pass(retention.Closing)
	}
}

// Whatever sessions, passes, edits, losses of protection, locks and damage follow one another: the last good point of a kind of a protected
// machine stays, and so does what is locked, made by hand, or needed by the next backup; and no flag returns.
func TestExplain_Histories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &history{t: t, now: at("03-01 07:00"), rules: drawRules(t)}
		one := func(t *rapid.T) *retention.Point {
			if len(h.points) == 0 {
				t.Skip("there is no point")
			}
			return &h.points[rapid.IntRange(0, len(h.points)-1).Draw(t, "which")]
		}
		t.Repeat(map[string]func(*rapid.T){
			"session":   h.session,
			"daily":     func(*rapid.T) { h.now = h.rules.Settings.NextPass(h.now); h.pass(retention.DailyPass) },
			"days":      func(t *rapid.T) { h.now = h.now.AddDate(0, 0, rapid.IntRange(1, 20).Draw(t, "days")) },
			"edit":      func(t *rapid.T) { h.edit(drawRules(t)) },
			"protect":   func(*rapid.T) { h.rules.Protected = true },
			"unprotect": func(*rapid.T) { h.edit(retention.Rules{Zone: h.rules.Zone, Settings: h.rules.Settings}) },
			"damage":    func(t *rapid.T) { one(t).Good = false },
			"heal":      func(t *rapid.T) { one(t).Good = true },
			"lock":      func(t *rapid.T) { one(t).LockedUntil = h.now.AddDate(0, 0, rapid.IntRange(0, 30).Draw(t, "locked")) },
			"remove": func(t *rapid.T) {
				id := one(t).ID
				h.points = slices.DeleteFunc(h.points, func(p retention.Point) bool { return p.ID == id })
			},
		})
	})
}

// edit changes the rules, with the last ones stored in every point. What it says of points that go comes true when both occasions come at once.
func (h *history) edit(after retention.Rules) {
	gone := retention.Edit(h.now, h.rules, after, h.points)
	for i, p := range h.points {
		h.points[i] = h.rules.Stamp(p)
	}
	for _, v := range gone {
		o := oracle{h.now, retention.BothOccasions, after, h.points}
		if o.stays(v.Point) {
			h.t.Fatalf("the edit is said to take %s", v.Point.ID)
		}
	}
	h.rules = after
}

func jsonOf(t *rapid.T, value any) string {
	data, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
