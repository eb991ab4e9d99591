package sla_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// Rows and regions of the tests. Dublin's clock shows UTC until 29 March 2026, New York's is 5 hours behind it until 8 March,
// and 4 from then on.
const (
	dublin  = "northeurope"
	newYork = "eastus"
	shop    = "shop"
)

func row(kind holdfast.PointKind, flag holdfast.Flag) sla.Row { return sla.Row{Kind: kind, Flag: flag} }

var (
	dailyBackups   = row(holdfast.PointBackup, holdfast.Daily)
	weeklyBackups  = row(holdfast.PointBackup, holdfast.Weekly)
	monthlyBackups = row(holdfast.PointBackup, holdfast.Monthly)
	dailySnapshots = row(holdfast.PointSnapshot, holdfast.Daily)
	archives       = row(holdfast.PointArchive, holdfast.Monthly)
)

// world is a ledger, and all that it told.
type world struct {
	t       *testing.T
	ledger  *sla.Ledger
	lines   map[string]sla.Expectation // by name, as last told
	told    []string                   // in order
	periods map[string][]sla.Compliance
	notes   []sla.Note
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return &world{t: t, ledger: sla.New(), lines: make(map[string]sla.Expectation), periods: make(map[string][]sla.Compliance)}
}

func nameOf(e sla.Expectation) string {
	return fmt.Sprintf("%s %s %s %s %s", e.Policy, e.Machine.Name(), e.Kind, e.Flag, e.Slot.UTC().Format("01-02 15:04"))
}

func periodOf(c sla.Compliance) string {
	return fmt.Sprintf("%s %s %s %s", c.Policy, c.Kind, c.Flag, c.Entry)
}

// Expectation implements sla.Recorder. An expectation that has ended must never be told again.
func (w *world) Expectation(e sla.Expectation) {
	name := nameOf(e)
	if before, known := w.lines[name]; known && before.State != sla.Open {
		w.t.Fatalf("%s: had ended as %s, and is %s now", name, before.State, e.State)
	}
	w.lines[name] = e
	w.told = append(w.told, fmt.Sprintf("%s %s %s %s", name, e.State, e.Reason, e.Ended.Format(time.RFC3339)))
}

func (w *world) Period(c sla.Compliance) {
	name := periodOf(c)
	w.periods[name] = append(w.periods[name], c)
	data, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.told = append(w.told, string(data))
}

func (w *world) Note(n sla.Note) { w.notes = append(w.notes, n) }

// do applies events, which must be accepted.
func (w *world) do(events ...sla.Event) {
	w.t.Helper()
	for _, e := range events {
		if err := w.ledger.Apply(e, w); err != nil {
			w.t.Fatalf("%#v: %v", e, err)
		}
	}
}

// until lets time pass.
func (w *world) until(at string) { w.t.Helper(); w.do(sla.TimePassed{At: when(at)}) }

// instant is a time of 2026: "03-02 10:00" in UTC.
func when(text string) time.Time {
	at, err := time.Parse("2006-01-02 15:04", "2026-"+text)
	if err != nil {
		panic(err)
	}
	return at
}

func machine(name string) holdfast.ResourceID {
	return holdfast.NewResourceID("11111111-1111-1111-1111-111111111111", "shop", "Microsoft.Compute/virtualMachines", name)
}

// hourly is the catalogue's template: backups every hour from 10:00 to 18:00, eight a day.
func hourly() holdfast.SLATemplate {
	return holdfast.SLATemplate{
		Name: "gold", TargetPercent: 97, Grace: time.Hour, ProofLevel: 2, ProofAge: holdfast.Days(30),
		BackupWindow: window("10:00-18:00"), SnapshotWindow: window("10:00-18:00"),
		Rows: []holdfast.SLARow{{Flag: holdfast.Daily, Kind: holdfast.PointBackup, Every: holdfast.Hours(1), KeepFor: holdfast.Days(14)}},
	}
}

func window(text string) holdfast.Window {
	opens, closes, _ := strings.Cut(text, "-")
	var w holdfast.Window
	if err := w.Opens.UnmarshalText([]byte(opens)); err != nil {
		panic(err)
	}
	if err := w.Closes.UnmarshalText([]byte(closes)); err != nil {
		panic(err)
	}
	return w
}

// with returns a template after a change.
func with(t holdfast.SLATemplate, change func(t *holdfast.SLATemplate)) holdfast.SLATemplate {
	t.Rows = slices.Clone(t.Rows)
	change(&t)
	return t
}

// asks returns a template with other rows.
func asks(t holdfast.SLATemplate, rows ...holdfast.SLARow) holdfast.SLATemplate {
	t.Rows = rows
	return t
}

func every(kind holdfast.PointKind, p holdfast.Period) holdfast.SLARow {
	return holdfast.SLARow{Flag: holdfast.Daily, Kind: kind, Every: p, KeepFor: holdfast.Days(14)}
}

func weeklyOn(kind holdfast.PointKind, days ...time.Weekday) holdfast.SLARow {
	return holdfast.SLARow{Flag: holdfast.Weekly, Kind: kind, Days: holdfast.WeekdaySet(days...), KeepFor: holdfast.Days(90)}
}

func monthlyOn(kind holdfast.PointKind, day int) holdfast.SLARow {
	return holdfast.SLARow{Flag: holdfast.Monthly, Kind: kind, Months: holdfast.EveryMonth, On: holdfast.MonthDay{Day: day}, KeepFor: holdfast.Months(12)}
}

// inForce puts a version in force, for both policy and template.
func inForce(at string, version int, t holdfast.SLATemplate, regions ...string) sla.Event {
	if len(regions) == 0 {
		regions = []string{dublin}
	}
	return sla.PolicyInForce{At: when(at), Policy: shop, Terms: sla.Terms{Version: version, TemplateVersion: version, Enabled: true, Regions: regions, Template: t}}
}

func joined(at, name string) sla.Event { return joinedIn(at, name, dublin) }

func joinedIn(at, name, region string) sla.Event {
	return sla.MachineJoined{At: when(at), Policy: shop, Machine: machine(name), Region: region}
}

func left(at, name string) sla.Event {
	return sla.MachineLeft{At: when(at), Policy: shop, Machine: machine(name)}
}

func work(name string, kind holdfast.PointKind, slot string) sla.Work {
	return sla.Work{Policy: shop, Machine: machine(name), Kind: kind, Slot: when(slot)}
}

// backed says that the backup for a slot became durable.
func backed(at, name, slot string) sla.Event {
	return made(at, name, holdfast.PointBackup, slot)
}

func made(at, name string, kind holdfast.PointKind, slot string) sla.Event {
	return sla.PointDurable{At: when(at), Work: work(name, kind, slot), Point: pointOf(name, kind, slot)}
}

func pointOf(name string, kind holdfast.PointKind, slot string) holdfast.PointID {
	return holdfast.PointID(fmt.Sprintf("%s %s %s", name, kind, slot))
}

func proven(at, name, slot string, level int) sla.Event {
	return sla.PointProven{At: when(at), Point: pointOf(name, holdfast.PointBackup, slot), Level: level, OK: true}
}

// served makes the backups of a machine at every hour of a day that is given, ten minutes after the slot.
func (w *world) served(day, name string, hours ...int) {
	w.t.Helper()
	for _, h := range hours {
		w.do(backed(fmt.Sprintf("%s %02d:10", day, h), name, fmt.Sprintf("%s %02d:00", day, h)))
	}
}

// wantLine checks how an expectation of daily backups stands.
func (w *world) wantLine(name, slot string, state sla.State, reason sla.Reason) {
	w.t.Helper()
	w.wantRow(name, dailyBackups, slot, state, reason)
}

func (w *world) wantRow(name string, of sla.Row, slot string, state sla.State, reason sla.Reason) {
	w.t.Helper()
	key := fmt.Sprintf("%s %s %s %s %s", shop, name, of.Kind, of.Flag, slot)
	line, known := w.lines[key]
	if !known {
		w.t.Errorf("%s: not expected", key)
		return
	}
	if line.State != state || line.Reason != reason {
		w.t.Errorf("%s: %s %q, not %s %q", key, line.State, line.Reason, state, reason)
	}
}

// wantNone checks that nothing was expected.
func (w *world) wantNone(name string, of sla.Row, slot string) {
	w.t.Helper()
	key := fmt.Sprintf("%s %s %s %s %s", shop, name, of.Kind, of.Flag, slot)
	if line, known := w.lines[key]; known {
		w.t.Errorf("%s: expected, and %s", key, line.State)
	}
}

// counted returns the counters of a machine as text: planned met missed excused open.
func (w *world) counted(name string, of sla.Row, day string) string {
	w.t.Helper()
	for _, m := range w.ledger.Machines(shop, of, date(day)) {
		if m.Machine == machine(name) {
			return fmt.Sprintf("%d planned %d met %d missed %d excused %d open %s", m.Planned, m.Met, m.Missed, m.Excused, m.Open, m.Status)
		}
	}
	return "not there"
}

func (w *world) wantCount(name string, of sla.Row, day, want string) {
	w.t.Helper()
	if got := w.counted(name, of, day); got != want {
		w.t.Errorf("%s, %s %s of %s: %s; want %s", name, of.Flag, of.Kind, day, got, want)
	}
}

// wantEntry checks the figure of an entry: created and proven percent, and verdict.
func (w *world) wantEntry(of sla.Row, day, want string) {
	w.t.Helper()
	c, ok := w.ledger.Entry(shop, of, date(day))
	if !ok {
		w.t.Errorf("%s %s of %s: no such entry", of.Flag, of.Kind, day)
		return
	}
	if got := percent(c.Created) + " " + percent(c.ProvenRatio) + " " + string(c.Status); got != want {
		w.t.Errorf("%s %s of %s: %s; want %s", of.Flag, of.Kind, day, got, want)
	}
}

func percent(p *float64) string {
	if p == nil {
		return "–"
	}
	return fmt.Sprintf("%.4g", *p)
}

func (w *world) wantClosed(of sla.Row, day, want string) {
	w.t.Helper()
	c, _ := w.ledger.Entry(shop, of, date(day))
	got := "open"
	if !c.Closed.IsZero() {
		got = c.Closed.UTC().Format("01-02 15:04")
	}
	if got != want {
		w.t.Errorf("%s %s of %s: closed is %s, not %s", of.Flag, of.Kind, day, got, want)
	}
}

func date(text string) civil.Date {
	at := when(text + " 00:00")
	return civil.Date{Year: at.Year(), Month: at.Month(), Day: at.Day()}
}

// sortedLines returns all lines in the order of their names.
func (w *world) sortedLines() []sla.Expectation {
	return slices.SortedFunc(maps.Values(w.lines), func(a, b sla.Expectation) int { return cmp.Compare(nameOf(a), nameOf(b)) })
}
