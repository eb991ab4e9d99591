package retention

import (
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// pass is one look at the points of a machine.
type pass struct {
	now      time.Time
	occasion Occasion
	rules    Rules
	states   []state // the oldest first
}

// state is what is known so far of a point.
type state struct {
	point    Point
	had      holdfast.Flags
	held     []Reason  // by flags, or like one
	lost     []Reason  // as held
	takenAt  time.Time // when a global age takes it; zero: never
	takenBy  Reason
	lastGood Reason // with a cause where it is one
}

// flagCount is how many flags there are.
const flagCount = 4

// newPass sorts the points and stores the rules in them.
func newPass(now time.Time, occasion Occasion, rules Rules, points []Point) *pass {
	p := &pass{now: now, occasion: occasion, rules: rules, states: make([]state, len(points))}
	for i, point := range points {
		if point.Manual || point.Temporary {
			point.Flags, point.Like = 0, 0 // they count for nobody
		}
		p.states[i] = state{point: rules.Stamp(point), had: point.Flags}
	}
	slices.SortFunc(p.states, func(a, b state) int { return a.point.compare(b.point) })
	return p
}

// flags finds which flags each point keeps. Numbers are those before anything is lost, so that what one limit takes does not decide
// what another one does.
func (p *pass) flags() {
	var good, left [kinds][flagCount]int // bearers among the points that were passed; and those that keep the flag
	for i := len(p.states) - 1; i >= 0; i-- {
		s := &p.states[i]
		counted, remaining := &good[rank(s.point.Kind)], &left[rank(s.point.Kind)]
		if s.point.Manual || s.point.Temporary {
			continue
		}
		byPerson := s.point.byPerson()
		for n, flag := range holdfast.AllFlags() {
			if byPerson && s.point.Like == flag {
				p.weigh(s, CauseStarted, flag, counted[n])
			}
			if !s.had.Has(flag) {
				continue
			}
			if kept := p.weigh(s, CauseFlag, flag, counted[n]); !kept {
				s.point.Flags = s.point.Flags.Without(flag)
			} else if s.point.Good {
				remaining[n]++
			}
			if s.point.Good {
				counted[n]++
			}
		}
		if byPerson && s.point.Like == 0 {
			s.held = append(s.held, Reason{Cause: CauseNoRule})
		}
		s.point.Outdated = len(s.held) == 0
	}
	p.number(left)
}

// weigh holds one flag of a point against its limit, newer being how many newer good points bear the flag. It reports whether the
// point keeps the flag.
func (p *pass) weigh(s *state, cause Cause, flag holdfast.Flag, newer int) bool {
	limit, zone := p.rules.limit(s.point, flag)
	reason := Reason{Cause: cause, Flag: flag}
	if s.point.Good && cause == CauseFlag {
		reason.Number = newer + 1
	}
	var exceeded bool
	lossCause, judge := CauseCount, Closing
	switch {
	case limit.IsZero():
		s.held = append(s.held, Reason{Cause: CauseNoRule, Flag: flag})
		return true
	case limit.Counted:
		exceeded = newer >= limit.Count
		reason.Of, reason.More = limit.Count, max(0, limit.Count-newer)
	default:
		until := civil.Add(s.point.Created, limit.For, zone)
		exceeded = p.now.After(until)
		reason.Age, reason.Until = limit.For, until.In(zone)
		lossCause, judge = CauseAge, DailyPass
	}
	if exceeded && p.occasion.Has(judge) {
		reason.Cause = lossCause
		s.lost = append(s.lost, reason)
		return false
	}
	reason.Pending = exceeded
	s.held = append(s.held, reason)
	return true
}

// number tells those that are kept for a period how many bear the flag.
func (p *pass) number(left [kinds][flagCount]int) {
	for i := range p.states {
		s := &p.states[i]
		for k := range s.held {
			r := &s.held[k]
			if r.Cause != CauseFlag || r.Until.IsZero() {
				continue
			}
			for n, flag := range holdfast.AllFlags() {
				if r.Flag == flag {
					r.Of = left[rank(s.point.Kind)][n]
				}
			}
		}
	}
}

// age finds what the installation's global ages take.
func (p *pass) age() {
	for i := range p.states {
		s := &p.states[i]
		s.takenAt, s.takenBy = p.rules.Settings.takes(s.point, p.rules.protects())
	}
}

// lastGood finds the points that must outlive their flags: the newest good one of each kind, or of all kinds together where no
// policy protects the machine.
func (p *pass) lastGood() {
	var found [kinds]bool
	for i := len(p.states) - 1; i >= 0; i-- {
		s := &p.states[i]
		group, kind := 0, holdfast.PointKind("")
		if p.rules.protects() {
			group, kind = rank(s.point.Kind), s.point.Kind
		}
		if !found[group] && p.restorable(s) {
			found[group] = true
			s.lastGood = Reason{Cause: CauseLastGood, Kind: kind}
		}
	}
}

// restorable reports whether a point can be a last good one. A snapshot that is held for the next backup alone cannot, since it goes
// when that has its own; nor can what a global age takes.
func (p *pass) restorable(s *state) bool {
	ordinary := s.point.Good && !s.point.Manual && !s.point.Temporary
	baseAlone := p.base(s) && len(s.held) == 0
	return ordinary && !baseAlone && (p.rules.protects() || !p.taken(s))
}

// base reports whether the next backup needs the snapshot.
func (p *pass) base(s *state) bool {
	return s.point.Base && s.point.Kind == holdfast.PointSnapshot && !p.rules.Gone
}

// taken reports whether a global age takes the point on this occasion, unless it is spared.
func (p *pass) taken(s *state) bool {
	return p.occasion.Has(DailyPass) && !s.takenAt.IsZero() && p.now.After(s.takenAt)
}

// spared reports whether no global age takes the point: the base and the last good snapshot of a machine that is protected.
func (p *pass) spared(s *state) bool {
	return p.rules.protects() && (p.base(s) || s.lastGood.Cause != "")
}

// verdict sums up what is known of a point.
func (p *pass) verdict(s *state) Verdict {
	v := Verdict{Point: s.point, Lost: s.had &^ s.point.Flags}
	taken := p.taken(s) && !p.spared(s)
	if !taken {
		v.Reasons = p.holding(s)
	}
	if s.point.locked(p.now) {
		v.Reasons = append(v.Reasons, Reason{Cause: CauseLocked, Until: s.point.LockedUntil.In(p.rules.zone())})
	}
	v.Keep = len(v.Reasons) > 0
	switch {
	case v.Keep:
		v.Until = p.until(s, v.Reasons)
	case taken:
		v.Reasons = []Reason{s.takenBy}
	case s.point.Temporary:
		v.Reasons = []Reason{{Cause: CauseTemporary}}
	case len(s.lost) > 0:
		v.Reasons = s.lost
	default:
		v.Reasons = []Reason{{Cause: CauseOutdated}}
	}
	return v
}

// holding is all that keeps a point but its lock.
func (p *pass) holding(s *state) []Reason {
	if s.point.Manual {
		return []Reason{{Cause: CauseManual}}
	}
	reasons := s.held
	if p.base(s) {
		reasons = append(reasons, Reason{Cause: CauseBase})
	}
	if s.lastGood.Cause != "" {
		reasons = append(reasons, s.lastGood)
	}
	return reasons
}

// until returns the daily pass in which a kept point goes when nothing but time passes; zero when time alone does not end all of
// its reasons.
func (p *pass) until(s *state, reasons []Reason) time.Time {
	end, ends := p.now, true
	for _, r := range reasons {
		switch {
		case r.Cause == CauseLocked:
		case r.Until.IsZero():
			ends = false
		case r.Until.After(end):
			end = r.Until
		}
	}
	if !s.takenAt.IsZero() && !p.spared(s) && (!ends || s.takenAt.Before(end)) {
		end, ends = s.takenAt, true
	}
	if !ends {
		return time.Time{}
	}
	for _, at := range [...]time.Time{p.now, s.point.LockedUntil} {
		if at.After(end) {
			end = at
		}
	}
	return p.rules.Settings.NextPass(end)
}
