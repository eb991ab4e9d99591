package sla

import (
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// check refuses work of a policy or a machine that the ledger never heard of, and for a slot that is still to come.
func (w Work) check(l *Ledger, at time.Time) error {
	p := l.policy(w.Policy)
	if p == nil {
		return holdfast.Errorf(holdfast.KindNotFound, "policy %q was never in force", w.Policy).WithField("policy").WithHint("put an event policyInForce before it")
	}
	if p.members[w.Machine.Key()] == nil {
		return holdfast.Errorf(holdfast.KindNotFound, "policy %s did not protect %s", w.Policy, w.Machine).WithField("machine").WithHint("put an event machineJoined before it")
	}
	switch w.Kind {
	case holdfast.PointSnapshot, holdfast.PointBackup, holdfast.PointArchive:
	default:
		return holdfast.Errorf(holdfast.KindInvalid, "%q is not a kind of restore point", w.Kind).WithField("kind").WithHint("write snapshot, backup or archive")
	}
	if w.Slot.IsZero() || w.Slot.After(at) {
		return holdfast.Errorf(holdfast.KindInvalid, "the slot of the session is not due yet at %s", stamp(at)).WithField("slot").WithHint("write the instant for which the session was started")
	}
	return nil
}

// each calls visit for the open expectations of the machine that the session can meet, and returns how many there are.
func (w Work) each(l *Ledger, visit func(p *policy, d *due, open *waiting)) int {
	p := l.policy(w.Policy)
	m := p.members[w.Machine.Key()]
	n := 0
	for _, d := range m.region.due {
		if d.slot.Kind != w.Kind || !Serves(d.slot, w.Slot) {
			continue
		}
		if open := d.find(m); open != nil {
			n++
			visit(p, d, open)
		}
	}
	return n
}

// note tells of work that met nothing.
func (w Work) note(l *Ledger, point holdfast.PointID, text string) {
	l.recorder.Note(Note{At: l.now, Policy: w.Policy, Machine: w.Machine, Kind: w.Kind, Slot: w.Slot, Point: point, Text: text})
}

// mark notes how far the session of open expectations has come.
func (w Work) mark(l *Ledger, a attempt, text string) {
	if w.each(l, func(_ *policy, _ *due, open *waiting) { open.attempt = a }) == 0 {
		w.note(l, "", text)
	}
}

func (e SessionStarted) check(l *Ledger) error { return e.Work.check(l, e.At) }
func (e SessionFailed) check(l *Ledger) error  { return e.Work.check(l, e.At) }
func (e PointDurable) check(l *Ledger) error {
	if e.Point == "" {
		return holdfast.Errorf(holdfast.KindInvalid, "the point has no id").WithField("point").WithHint("write the id of the restore point")
	}
	return e.Work.check(l, e.At)
}

func (e SessionStarted) apply(l *Ledger) {
	e.mark(l, started, "a session was started for a slot at which nothing is open")
}

func (e SessionFailed) apply(l *Ledger) {
	e.mark(l, failed, "a session failed for a slot at which nothing is open")
}

func (e SessionSkipped) check(l *Ledger) error {
	if e.Kind != "" && !Overlaps(e.Kind, e.Kind) {
		return holdfast.Errorf(holdfast.KindInvalid, "a session of kind %s is never skipped", e.Kind).WithField("kind").WithHint("only backups wait for one another: write backup")
	}
	return e.Work.check(l, e.At)
}

// apply misses a skipped slot at once. A weekly or monthly slot that stands with it waits for a later session of its window,
// if there is one.
func (e SessionSkipped) apply(l *Ledger) {
	met := e.each(l, func(p *policy, d *due, open *waiting) {
		switch {
		case !d.slot.At.Equal(e.Slot):
		case d.slot.Flag == holdfast.Daily || !p.comesAgain(d, l.now):
			p.finish(l, d, open, ending{state: Missed, reason: Overlap})
		default:
			open.attempt = overlapped
		}
	})
	if met == 0 {
		e.note(l, "", "a session was skipped for a slot at which nothing is open")
	}
}

// comesAgain reports whether a later session of the same window can still meet a slot.
func (p *policy) comesAgain(d *due, now time.Time) bool {
	s := p.inForce()
	if s == nil {
		return false
	}
	for later := range schedule.Slots(s.terms.Template, d.region.zone, d.slot.At.Add(1), d.slot.Closes) {
		if later.Kind == d.slot.Kind && !later.At.Before(now) {
			return true
		}
	}
	return false
}

// apply meets every open expectation that the session serves: their deadlines have not come.
func (e PointDurable) apply(l *Ledger) {
	met := e.each(l, func(p *policy, d *due, open *waiting) {
		p.finish(l, d, open, ending{state: Met, point: e.Point})
	})
	if met == 0 {
		e.note(l, e.Point, "the point meets nothing: at its slot no expectation is open")
	}
}

// follow counts one more met expectation that stands on a point.
func (l *Ledger) follow(id holdfast.PointID) *point {
	pt := l.points[id]
	if pt == nil {
		pt = &point{id: id}
		l.points[id] = pt
	}
	pt.followed++
	return pt
}

// unfollow counts one less, when a figure freezes.
func (l *Ledger) unfollow(pt *point) {
	if pt.followed--; pt.followed == 0 {
		delete(l.points, pt.id)
	}
}

func (e PointProven) check(*Ledger) error {
	switch {
	case e.Level < levelMin || e.Level > levelMax:
		return holdfast.Errorf(holdfast.KindInvalid, "%d is not a proof level", e.Level).WithField("level").WithHint("write a number from %d to %d", levelMin, levelMax)
	case e.Proved.After(e.At):
		return holdfast.Errorf(holdfast.KindInvalid, "the proof is of %s, after it was told", stamp(e.Proved)).WithField("proved").WithHint("write from when the proof counts, at the latest the time of the event")
	}
	return nil
}

func (e PointProven) apply(l *Ledger) {
	l.stand(e.Point, func(s Standing) Standing { return s.Proven(e) })
}

func (PointRemoved) check(*Ledger) error { return nil }

func (e PointRemoved) apply(l *Ledger) {
	l.stand(e.Point, func(s Standing) Standing { return s.RemovedAt(l.now) })
}

// stand changes the standing of a point that a figure still depends on.
func (l *Ledger) stand(id holdfast.PointID, change func(Standing) Standing) {
	pt := l.points[id]
	if pt == nil {
		l.recorder.Note(Note{At: l.now, Point: id, Text: "no figure that can still change depends on the point"})
		return
	}
	var s Standing
	if pt.standing != nil {
		s = *pt.standing
	}
	s = change(s)
	pt.standing = &s
}
