package show

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/preview"
)

// page writes lines and remembers the first error.
type page struct {
	w   io.Writer
	err error
}

func (p *page) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *page) table(header []string, rows [][]string) {
	if p.err == nil && len(rows) > 0 {
		p.err = cli.Table(p.w, header, rows)
	}
}

// Preview shows what a preview comes to: a calendar for each policy, what is kept, and what it costs.
func Preview(w io.Writer, s preview.Summary) error {
	p := &page{w: w}
	p.line("From %s to %s: %s in the inventory, %d without a policy.", cli.Time(s.From), cli.Time(s.To), cli.Count(s.Machines, "machine"), s.Unprotected)
	tellLeftOut(p, s.LeftOut)
	for _, policy := range s.Policies {
		tellCalendar(p, policy, s)
	}
	if len(s.Policies) > 0 {
		p.line("\nIn the calendars: s snapshots, b backups, a archives of each machine; W M Y flags of rarer schedules; -n points removed; ! refused; ~ the clocks change.")
		tellCounts(p, s.Policies)
	}
	tellLimits(p, s.Calls)
	tellCosts(p, s.Cost)
	return p.err
}

// leftOutMax bounds how many machines are named whose points were left out: it is a warning, and scripts get them all.
const leftOutMax = 10

// tellLeftOut says whose points are no part of the preview.
func tellLeftOut(p *page, machines []preview.LeftOut) {
	if len(machines) == 0 {
		return
	}
	p.line("Warning: %s with points in --points that the inventory does not hold; what becomes of these points is not shown:", cli.Count(len(machines), "machine"))
	for _, l := range machines[:min(len(machines), leftOutMax)] {
		p.line("  %s (%s)", cli.Printable(string(l.VM)), cli.Count(l.Points, "point"))
	}
	if more := len(machines) - leftOutMax; more > 0 {
		p.line("  and %d more", more)
	}
}

// tellCalendar draws the weeks of one policy.
func tellCalendar(p *page, policy preview.PolicySummary, s preview.Summary) {
	state := ""
	if !policy.Enabled {
		state = ", disabled"
	}
	p.line("\n%s (%s%s): %s", policy.Name, policy.Kind, state, cli.Count(policy.Machines, "machine"))
	if policy.Machines == 0 {
		p.line("  It protects nothing.")
		return
	}
	zone, err := civil.Zone(policy.Zone)
	if err != nil || len(policy.Days) == 0 {
		p.line("  Nothing happens in these days.")
		return
	}
	days := map[civil.Date]preview.Day{}
	for _, d := range policy.Days {
		days[d.Date] = d
	}
	first, last := civil.DateOf(s.From, zone), civil.DateOf(s.To.Add(-1), zone)
	p.line("  days of %s", policy.Zone)
	p.line("  %-9s%s", "week of", weekdayHeader())
	for monday := first.Monday(); monday.Compare(last) <= 0; monday = monday.AddDays(7) {
		var week strings.Builder
		for i := range 7 {
			date := monday.AddDays(i)
			fmt.Fprintf(&week, "%-*s", cellWidth, cell(days[date], date.Compare(first) >= 0 && date.Compare(last) <= 0))
		}
		p.line("  %-9s%s", fmt.Sprintf("%02d %s", monday.Day, monday.Month.String()[:3]), strings.TrimRight(week.String(), " "))
	}
}

// cellWidth is the width of a day in the calendar; the fullest day, such as 288s12b1aWMY-301~, is a little wider and moves the
// rest of its line.
const cellWidth = 14

func weekdayHeader() string {
	var b strings.Builder
	for i := range 7 {
		fmt.Fprintf(&b, "%-*s", cellWidth, time.Weekday((i + 1) % 7).String()[:3])
	}
	return strings.TrimRight(b.String(), " ")
}

// cell says what happens on a day.
func cell(d preview.Day, inside bool) string {
	if !inside {
		return ""
	}
	var b strings.Builder
	for _, part := range []struct {
		n      int
		letter string
	}{{d.Snapshots, "s"}, {d.Backups, "b"}, {d.Archives, "a"}} {
		if part.n > 0 {
			fmt.Fprintf(&b, "%d%s", part.n, part.letter)
		}
	}
	b.WriteString(d.Flags.String())
	if d.Removed > 0 {
		fmt.Fprintf(&b, "-%d", d.Removed)
	}
	if d.Refused > 0 {
		b.WriteString("!")
	}
	if d.Shifted {
		b.WriteString("~")
	}
	if b.Len() == 0 {
		return "."
	}
	return b.String()
}

// tellCounts shows what each policy makes, removes and keeps, of all machines together.
func tellCounts(p *page, policies []preview.PolicySummary) {
	p.line("")
	var rows [][]string
	for _, s := range policies {
		made := func(n preview.Name) string { return fmt.Sprint(s.Counts[n]) }
		kept := fmt.Sprintf("%d / %d / %d", s.Kept[holdfast.PointSnapshot], s.Kept[holdfast.PointBackup], s.Kept[holdfast.PointArchive])
		slots := "-"
		if s.Kind == holdfast.PolicySLA {
			slots = fmt.Sprintf("%d / %d / %d", s.Counts[preview.Met], s.Counts[preview.Missed], s.Counts[preview.Excused])
		}
		rows = append(rows, []string{
			s.Name, made(preview.Run), made(preview.Snapshot), made(preview.Backup), made(preview.Archive), made(preview.Remove), made(preview.Refused), kept, slots,
		})
	}
	p.table([]string{"POLICY", "RUNS", "SNAPSHOTS", "BACKUPS", "ARCHIVES", "REMOVED", "REFUSED", "KEPT S/B/A", "SLOTS MET/MISSED/EXCUSED"}, rows)
}

// tellLimits shows which limits of Azure would be passed.
func tellLimits(p *page, r cost.CallReport) {
	for _, f := range r.Findings {
		p.line("Warning: %s (first at %s, %d times)", f.Message, cli.Time(f.First), f.Times)
	}
}

// tellCosts shows the costs of each month, and what about them is worth a thought.
func tellCosts(p *page, r cost.Report) {
	if len(r.Months) == 0 {
		return
	}
	p.line("\nEstimated cost in %s, by list prices of %s; %.0f %% of the disks hold data, %.0f %% of it changes a day, stored at %.0f %% of its size:", r.Currency, r.PricesFrom,
		100*r.Assumptions.Occupied, 100*r.Assumptions.DailyChurn, 100*r.Assumptions.Compression)
	var rows [][]string
	for _, m := range r.Months {
		name := m.Start.Format("January 2006")
		if !m.Whole {
			name += fmt.Sprintf(", %d days", int(m.End.Sub(m.Start).Hours()/24+0.5))
		}
		rows = append(rows, costRow(name, m.Costs))
	}
	p.table([]string{"MONTH", "SNAPSHOTS", "BACKUPS", "ARCHIVES", "TRAFFIC", "TRANSACTIONS", "TOTAL", "STORED, GB-MONTHS S/B/A"}, rows)
	if len(r.AssumedLRS) > 0 {
		p.line("Priced as LRS, since their documents name no redundancy: %s", cli.Printable(strings.Join(r.AssumedLRS, ", ")))
	}
	for _, warning := range r.Warnings {
		p.line("Warning: %s: %s", warning.Policy, warning.Message)
		if warning.Hint != "" {
			p.line("  → %s", warning.Hint)
		}
	}
}

func costRow(name string, c cost.Costs) []string {
	return []string{name, c.Snapshots.String(), c.Backups.String(), c.Archives.String(), c.Traffic.String(), c.Transactions.String(), c.Total.String(), fmt.Sprintf("%.0f / %.0f / %.0f", c.Stored(cost.PartSnapshots), c.Stored(cost.PartBackups), c.Stored(cost.PartArchives))}
}

// Differences counts changes by policy and name of event.
type Differences map[string]map[preview.Name]struct{ gone, added int }

// Add counts a change.
func (d Differences) Add(c preview.Change) {
	if d[c.Policy] == nil {
		d[c.Policy] = map[preview.Name]struct{ gone, added int }{}
	}
	n := d[c.Policy][c.Name]
	if c.Added {
		n.added += max(1, len(c.Machines))
	} else {
		n.gone += max(1, len(c.Machines))
	}
	d[c.Policy][c.Name] = n
}

// Difference shows what a set of documents changes, compared with another one.
func Difference(w io.Writer, d Differences, lost []preview.Lost, before, after preview.Summary) error {
	p := &page{w: w}
	p.line("From %s to %s, compared with the documents of --against:", cli.Time(after.From), cli.Time(after.To))
	tellLeftOut(p, after.LeftOut)
	if len(d) == 0 {
		p.line("nothing differs")
	}
	var rows [][]string
	for _, policy := range slices.Sorted(maps.Keys(d)) {
		for _, name := range preview.Names() {
			if n, ok := d[policy][name]; ok {
				rows = append(rows, []string{cmp.Or(policy, "-"), string(name), fmt.Sprint(n.gone), fmt.Sprint(n.added)})
			}
		}
	}
	p.table([]string{"POLICY", "EVENT", "NO MORE", "NEW"}, rows)
	if len(lost) > 0 {
		p.line("\nExisting points that would go at once:")
		rows = rows[:0]
		for _, l := range lost {
			rows = append(rows, []string{l.VM.Name(), string(l.Point), string(l.Kind), cli.Time(l.Created), l.Reason})
		}
		p.table([]string{"VM", "POINT", "KIND", "CREATED", "WHY"}, rows)
	}
	tellCostDifference(p, before.Cost, after.Cost)
	return p.err
}

// tellCostDifference compares the months that tell best.
func tellCostDifference(p *page, before, after cost.Report) {
	if len(before.Months) == 0 || len(after.Months) == 0 {
		return
	}
	i := after.Typical()
	p.line("\nEstimated cost in %s, %s:", after.Currency, after.Months[i].Start.Format("January 2006"))
	p.table([]string{"DOCUMENTS", "SNAPSHOTS", "BACKUPS", "ARCHIVES", "TRAFFIC", "TRANSACTIONS", "TOTAL", "STORED, GB-MONTHS S/B/A"},
		[][]string{costRow("--against", before.Months[i].Costs), costRow("-f", after.Months[i].Costs)})
}
