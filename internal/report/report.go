// Package report tells how an SLA policy did: period by period, machine by machine, and expectation by expectation.
//
// It promises that closed periods are told as they were written down when they closed, whatever was edited or removed since; what a figure
// would be by the template and the proofs of now is a field of its own. It must never judge by itself: what was met and what a ratio is comes
// from package sla.
package report

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Detail says which expectations are told.
type Detail string

// The choices.
const (
	NoSlots     Detail = "none"
	MissedSlots Detail = "missed"
	AllSlots    Detail = "all"
)

// Ask says what is to be told.
type Ask struct {
	Policy   string
	Period   holdfast.Flag       // daily, weekly or monthly
	From, To civil.Date          // first days of periods, both included; both zero: those of the chart, 14 days, 12 weeks or 12 months
	VM       holdfast.ResourceID // of this machine alone; "": of all. Figures of the policy are those of all machines either way
	Slots    Detail              // "": none
	// ProvenNow asks for what would count as proven by the template in force and the proofs of now: every point of these periods is looked at,
	// which takes longer than all else together.
	ProvenNow bool
	// UnderWay asks for periods and expectations that are open too, and for figures of proven points that may still move as of now: the ledger is
	// read.
	UnderWay bool
}

// Report is how a policy did.
type Report struct {
	Policy   string            `json:"policy"`
	Template string            `json:"template,omitempty"` // in force now; "" of a policy that was removed
	Period   holdfast.Flag     `json:"period"`
	From     civil.Date        `json:"from,omitzero"` // first days of the oldest and the newest period that are told
	To       civil.Date        `json:"to,omitzero"`
	Entries  []Entry           `json:"entries"` // the newest first; of one day in the order of rows
	Open     []sla.Expectation `json:"open"`    // expectations of this frequency that have not ended; none unless what is under way was asked for
}

// Entry is what a policy achieved with one row in one period.
type Entry struct {
	sla.Compliance
	ProvenNow *float64  `json:"provenNowPercent,omitempty"` // nil where it was not asked for, no template is in force, or nothing has a ratio
	ByMachine []Machine `json:"byMachine"`                  // by id
}

// Machine is what one machine achieved in a period.
type Machine struct {
	sla.MachineCompliance
	Name         string            `json:"name"`
	Expectations []sla.Expectation `json:"expectations"` // in order of their slots: as many as were asked for
}

// Of tells how a policy did, as of an instant. State is what is intended now. The error has KindNotFound for a policy that neither exists nor
// has a history, and KindInvalid for a period that is none.
func Of(ctx context.Context, q store.Query, state *protection.State, now time.Time, ask Ask) (Report, error) {
	if err := ask.check(); err != nil {
		return Report{}, err
	}
	r := reporter{query: q, ask: ask, now: now, report: Report{Policy: ask.Policy, Period: ask.Period, Entries: []Entry{}, Open: []sla.Expectation{}}}
	_, template, exists := state.SLA(ask.Policy)
	if exists {
		r.template, r.report.Template = &template, template.Name
	}
	for _, step := range []func(context.Context) error{r.readClosed, r.readUnsettled, r.readProven, r.readSlots} {
		if err := step(ctx); err != nil {
			return Report{}, err
		}
	}
	if !exists && len(r.report.Entries) == 0 {
		return Report{}, holdfast.Errorf(holdfast.KindNotFound, "there is no SLA policy %q, and never was one with a period that closed", ask.Policy).WithField("policy")
	}
	r.order()
	return r.report, nil
}

func (a Ask) check() error {
	switch a.Period {
	case holdfast.Daily, holdfast.Weekly, holdfast.Monthly:
	default:
		return holdfast.Errorf(holdfast.KindInvalid, "%q is no period of an SLA", a.Period).WithField("period").WithHint("write daily, weekly or monthly")
	}
	switch a.Slots {
	case "", NoSlots, MissedSlots, AllSlots:
	default:
		return holdfast.Errorf(holdfast.KindInvalid, "%q says nothing of slots", a.Slots).WithField("slots").WithHint("write none, missed or all")
	}
	if a.From != (civil.Date{}) && a.To != (civil.Date{}) && a.To.Before(a.From) {
		return holdfast.Errorf(holdfast.KindInvalid, "%s lies before %s", a.To, a.From).WithField("to").WithHint("name the older day first")
	}
	return nil
}

// rows are those that a template may have of one frequency.
func (a Ask) rows() []sla.Row {
	return []sla.Row{{Kind: holdfast.PointSnapshot, Flag: a.Period}, {Kind: holdfast.PointBackup, Flag: a.Period}, {Kind: holdfast.PointArchive, Flag: a.Period}}
}

// reporter is a report in the making.
type reporter struct {
	query    store.Query
	ask      Ask
	now      time.Time
	template *holdfast.SLATemplate // nil: none is in force
	report   Report
}

// readClosed reads the periods that closed.
func (r *reporter) readClosed(ctx context.Context) error {
	for _, row := range r.ask.rows() {
		f := store.PeriodFilter{Policy: r.ask.Policy, Row: row, From: r.ask.From, To: r.ask.To, Machines: true}
		if r.ask.From == (civil.Date{}) && r.ask.To == (civil.Date{}) {
			f.Newest = sla.Shown(r.ask.Period)
		}
		periods, err := store.Periods(ctx, r.query, f)
		if err != nil {
			return err
		}
		for _, p := range periods {
			r.put(p.Compliance, p.ByMachine)
		}
	}
	return nil
}

// put takes a period in, in place of what is known of it.
func (r *reporter) put(c sla.Compliance, machines []sla.MachineCompliance) {
	e := Entry{Compliance: c, ByMachine: make([]Machine, 0, len(machines))}
	for _, m := range machines {
		e.ByMachine = append(e.ByMachine, Machine{MachineCompliance: m, Name: m.Machine.Name(), Expectations: []sla.Expectation{}})
	}
	same := func(o Entry) bool { return o.Row == c.Row && o.Entry == c.Entry }
	if k := slices.IndexFunc(r.report.Entries, same); k >= 0 {
		r.report.Entries[k] = e
		return
	}
	r.report.Entries = append(r.report.Entries, e)
}

// readUnsettled reads what may still move, from a copy of the ledger that is brought up to now.
func (r *reporter) readUnsettled(ctx context.Context) error {
	if !r.ask.UnderWay {
		return nil
	}
	ledger, err := store.LedgerAsOf(ctx, r.query, r.now)
	if err != nil {
		return err
	}
	for c := range ledger.Unsettled(r.ask.Policy, r.ask.Period) {
		if r.wants(c.Entry) {
			r.put(c, ledger.Machines(c.Policy, c.Row, c.Entry))
		}
	}
	for e := range ledger.Open(r.ask.Policy) {
		if e.Flag == r.ask.Period && (r.ask.VM == "" || r.ask.VM.Equal(e.Machine)) {
			r.report.Open = append(r.report.Open, e)
		}
	}
	return nil
}

func (r *reporter) wants(day civil.Date) bool {
	early := r.ask.From != (civil.Date{}) && day.Before(r.ask.From)
	late := r.ask.To != (civil.Date{}) && r.ask.To.Before(day)
	return !early && !late
}

// bounds are the first days of the oldest and the newest period.
func (r *reporter) bounds() (first, last civil.Date) {
	for i, e := range r.report.Entries {
		if i == 0 || e.Entry.Before(first) {
			first = e.Entry
		}
		if i == 0 || last.Before(e.Entry) {
			last = e.Entry
		}
	}
	return first, last
}

// readProven adds what would count as proven now.
func (r *reporter) readProven(ctx context.Context) error {
	if r.template == nil || !r.ask.ProvenNow {
		return nil
	}
	first, last := r.bounds()
	for _, row := range r.ask.rows() {
		proven, err := store.ProvenPoints(ctx, r.query, store.Standings{Policy: r.ask.Policy, Row: row, From: first, To: last, Level: r.template.ProofLevel})
		if err != nil {
			return err
		}
		for i := range r.report.Entries {
			if e := &r.report.Entries[i]; e.Row == row {
				e.ProvenNow = sla.ProvenNow(e.compliances(), slices.Values(proven[e.Entry]), *r.template, r.now)
			}
		}
	}
	return nil
}

func (e *Entry) compliances() []sla.MachineCompliance {
	all := make([]sla.MachineCompliance, len(e.ByMachine))
	for i, m := range e.ByMachine {
		all[i] = m.MachineCompliance
	}
	return all
}

// readSlots adds the expectations that were asked for, and leaves the machines that were.
func (r *reporter) readSlots(ctx context.Context) error {
	for i := range r.report.Entries {
		if e := &r.report.Entries[i]; r.ask.VM != "" {
			e.ByMachine = slices.DeleteFunc(e.ByMachine, func(m Machine) bool { return !m.Machine.Equal(r.ask.VM) })
		}
	}
	if r.ask.Slots == "" || r.ask.Slots == NoSlots || len(r.report.Entries) == 0 {
		return nil
	}
	type place struct {
		row     sla.Row
		entry   civil.Date
		machine string
	}
	machines := map[place]*Machine{}
	for _, e := range r.report.Entries {
		for i := range e.ByMachine {
			machines[place{e.Row, e.Entry, e.ByMachine[i].Machine.Key()}] = &e.ByMachine[i]
		}
	}
	first, last := r.bounds()
	f := store.ExpectationFilter{Policy: r.ask.Policy, VM: r.ask.VM, From: first, To: last}
	if r.ask.Slots == MissedSlots {
		f.States = []sla.State{sla.Missed}
	}
	for _, f.Row = range r.ask.rows() {
		expectations, err := store.Expectations(ctx, r.query, f)
		if err != nil {
			return err
		}
		for _, x := range expectations {
			if m := machines[place{x.Row, x.Entry, x.Machine.Key()}]; m != nil {
				m.Expectations = append(m.Expectations, x)
			}
		}
	}
	return nil
}

// order puts the newest periods first.
func (r *reporter) order() {
	slices.SortFunc(r.report.Entries, func(a, b Entry) int {
		return cmp.Or(b.Entry.Compare(a.Entry), a.Row.Compare(b.Row))
	})
	r.report.From, r.report.To = r.bounds()
}
