// Package replay feeds a ledger with events from a file, and shows what it says: every expectation, and the ratios of every
// day, week and month.
//
// It promises that a file is read strictly: an event or a field that is not known, one that is missing or stands there twice, and
// an event out of order are errors that name the line, and nothing is shown of such a file. doc/cli.md has the list of events.
// It must never judge by itself: what was met and what a ratio is comes from package sla.
package replay

import (
	"cmp"
	"io"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// Result is what a ledger says after the last event.
type Result struct {
	Until        time.Time     `json:"until"`
	Expectations []Expectation `json:"expectations"` // in order of slots
	Entries      []Entry       `json:"entries"`      // by policy and row, in order of time; those without a machine are left out
	Notes        []sla.Note    `json:"notes"`        // events that changed nothing
}

// Expectation is a line of the ledger, with how far its point has been proven.
type Expectation struct {
	sla.Expectation
	Standing *sla.Standing `json:"standing,omitempty"` // of the point that met it
}

// Entry is what a policy and its machines achieved with one row in a day, a week or a month.
type Entry struct {
	sla.Compliance
	// ProvenNow is the share of proven points by the template in force after the last event, in percent; nil where no machine has a
	// ratio or no version is in force.
	ProvenNow *float64                `json:"provenNowPercent,omitempty"`
	ByMachine []sla.MachineCompliance `json:"byMachine"` // by id
}

// Run reads events and returns what the ledger says in the end. Policies and templates are those of the documents.
func Run(events io.Reader, d holdfast.Documents) (Result, error) {
	r := newReplay(d)
	n := 0
	for l, err := range lines(events) {
		n++
		if err != nil {
			return Result{}, err
		}
		if err := r.take(l); err != nil {
			return Result{}, inLine(n, err)
		}
	}
	return r.result(), nil
}

// replay is a ledger, and what it told so far.
type replay struct {
	documents holdfast.Documents
	ledger    *sla.Ledger
	told      map[lineKey]int
	lines     []sla.Expectation
	entries   map[entryKey]Entry
	standings map[holdfast.PointID]sla.Standing
	notes     []sla.Note
}

type lineKey struct {
	policy, machine string
	row             sla.Row
	slot            time.Time
}

type entryKey struct {
	policy string
	row    sla.Row
	day    civil.Date
}

func newReplay(d holdfast.Documents) *replay {
	return &replay{
		documents: d, ledger: sla.New(), told: make(map[lineKey]int), entries: make(map[entryKey]Entry),
		standings: make(map[holdfast.PointID]sla.Standing), notes: []sla.Note{},
	}
}

// take applies an event.
func (r *replay) take(l line) error {
	event := l.event
	if l.edit != nil {
		var err error
		if event, err = r.complete(*l.edit); err != nil {
			return err
		}
	}
	if err := r.ledger.Apply(event, r); err != nil {
		return err
	}
	switch e := event.(type) {
	case sla.PointProven:
		r.standings[e.Point] = r.standings[e.Point].Proven(e)
	case sla.PointRemoved:
		r.standings[e.Point] = r.standings[e.Point].RemovedAt(e.At)
	}
	return nil
}

// complete makes an event of an edit: what it does not say is as the documents say, and its version is one more than before.
func (r *replay) complete(e edit) (sla.Event, error) {
	var policy *holdfast.SLAPolicy
	for i := range r.documents.SLAPolicies {
		if p := &r.documents.SLAPolicies[i]; p.Name == e.policy {
			policy = p
		}
	}
	if policy == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the documents have no SLA policy %q", e.policy).WithField("policy").WithHint("name a policy of kind SLAPolicy in the documents after -f")
	}
	name := cmp.Or(e.template, policy.Template)
	template, found := r.documents.SLATemplate(name)
	if !found {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the documents have no SLA template %q", name).WithField("template").WithHint("name a document of kind SLATemplate")
	}
	before, _ := r.ledger.InForce(e.policy)
	terms := sla.Terms{
		Version: cmp.Or(e.version, before.Version+1), Enabled: policy.Enabled, Regions: policy.Sources.Regions, Template: template,
		TemplateVersion: cmp.Or(e.templateVersion, 1),
	}
	if e.regions != nil {
		terms.Regions = e.regions
	}
	return sla.PolicyInForce{At: e.at, Policy: e.policy, Terms: terms}, nil
}

// Expectation implements sla.Recorder.
func (r *replay) Expectation(e sla.Expectation) {
	key := lineKey{e.Policy, e.Machine.Key(), e.Row, e.Slot}
	k, known := r.told[key]
	if !known {
		k = len(r.lines)
		r.told[key] = k
		r.lines = append(r.lines, sla.Expectation{})
	}
	r.lines[k] = e
}

// Period implements sla.Recorder. The ledger forgets an entry in the end, so its figures are kept here.
func (r *replay) Period(c sla.Compliance) { r.keep(c) }

// Note implements sla.Recorder.
func (r *replay) Note(n sla.Note) { r.notes = append(r.notes, n) }

func (r *replay) keep(c sla.Compliance) {
	if c.Machines.Total > 0 {
		r.entries[entryKey{c.Policy, c.Row, c.Entry}] = Entry{Compliance: c, ByMachine: r.ledger.Machines(c.Policy, c.Row, c.Entry)}
	}
}

func (r *replay) result() Result {
	met := make(map[entryKey][]sla.Proven)
	result := Result{Until: r.ledger.Now(), Expectations: make([]Expectation, 0, len(r.lines)), Notes: r.notes}
	for _, e := range r.lines {
		shown := Expectation{Expectation: e}
		key := entryKey{e.Policy, e.Row, e.Entry}
		if e.State == sla.Met {
			standing := r.standings[e.Point]
			shown.Standing = &standing
			met[key] = append(met[key], sla.Proven{Machine: e.Machine, Standing: standing})
		}
		if c, known := r.ledger.Entry(e.Policy, e.Row, e.Entry); known && r.entries[key].Frozen.IsZero() {
			r.keep(c)
		}
		result.Expectations = append(result.Expectations, shown)
	}
	slices.SortStableFunc(result.Expectations, func(a, b Expectation) int { return a.Slot.Compare(b.Slot) })
	result.Entries = r.sorted(met)
	return result
}

// sorted returns the entries, each with its share of points that are proven now.
func (r *replay) sorted(met map[entryKey][]sla.Proven) []Entry {
	entries := make([]Entry, 0, len(r.entries))
	for key, e := range r.entries {
		if terms, inForce := r.ledger.InForce(key.policy); inForce {
			e.ProvenNow = sla.ProvenNow(e.ByMachine, slices.Values(met[key]), terms.Template, r.ledger.Now())
		}
		entries = append(entries, e)
	}
	slices.SortFunc(entries, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), a.Row.Compare(b.Row), a.Compliance.Entry.Compare(b.Compliance.Entry))
	})
	return entries
}
