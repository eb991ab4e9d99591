package show

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/sla/replay"
)

// Replay prints the ratios, what was missed, and what changed nothing.
func Replay(w io.Writer, r replay.Result) error {
	rows := make([][]string, 0, len(r.Entries))
	for _, e := range r.Entries {
		rows = append(rows, []string{
			e.Policy, rowWords(e.Row), e.Compliance.Entry.String(), string(e.Status), percentText(e.Created), percentText(e.ProvenRatio), percentText(e.ProvenNow),
			percentText(&e.TargetPercent), fmt.Sprintf("%d of %d", e.Machines.Met, e.Machines.Total), fmt.Sprint(e.Met), fmt.Sprint(e.Missed), fmt.Sprint(e.Excused), fmt.Sprint(e.Open),
		})
	}
	heading := []string{"POLICY", "ROW", "ENTRY", "STATUS", "CREATED", "PROVEN", "PROVEN NOW", "TARGET", "VMS MET", "MET", "MISSED", "EXCUSED", "OPEN"}
	if err := cli.Table(w, heading, rows); err != nil {
		return err
	}
	return tellMissed(w, r)
}

func tellMissed(w io.Writer, r replay.Result) error {
	var rows [][]string
	inOrder := func(a, b replay.Expectation) int { return a.Ended.Compare(b.Ended) }
	for _, e := range slices.SortedStableFunc(slices.Values(r.Expectations), inOrder) {
		if e.State == sla.Missed {
			rows = append(rows, []string{cli.Time(e.Ended), e.Policy, e.Machine.Name(), rowWords(e.Row), cli.Time(e.Slot), string(e.Reason)})
		}
	}
	verdict := cli.Count(len(rows), "expectation") + " were missed"
	if len(rows) == 1 {
		verdict = "1 expectation was missed"
	}
	if _, err := fmt.Fprintf(w, "\n%s up to %s.\n", verdict, cli.Time(r.Until)); err != nil {
		return err
	}
	if len(rows) > 0 {
		if err := cli.Table(w, []string{"MISSED AT", "POLICY", "VM", "ROW", "SLOT", "REASON"}, rows); err != nil {
			return err
		}
	}
	for _, n := range r.Notes {
		if _, err := fmt.Fprintf(w, "note  %s: %s\n", noteAbout(n), n.Text); err != nil {
			return err
		}
	}
	return nil
}

// noteAbout says what a note is about.
func noteAbout(n sla.Note) string {
	about := []string{cli.Time(n.At), n.Policy, n.Machine.Name(), string(n.Kind), string(n.Point)}
	if !n.Slot.IsZero() {
		about = append(about, "slot "+cli.Time(n.Slot))
	}
	return strings.Join(slices.DeleteFunc(about, func(part string) bool { return part == "" }), ", ")
}

func rowWords(r sla.Row) string { return r.Flag.String() + " " + string(r.Kind) }

// percentText writes a share for people, cut and not rounded: nothing less than all is shown as 100 %.
func percentText(share *float64) string {
	if share == nil {
		return "–"
	}
	return fmt.Sprintf("%g %%", float64(int64(*share*10))/10)
}

// SLAReport shows how an SLA policy did: its ratios, what was missed and why, and what is still expected.
func SLAReport(w io.Writer, r report.Report) error {
	p := &page{w: w}
	p.line("%s by %s, %s: from %s to %s", r.Policy, r.Template, r.Period, r.From, r.To)
	if len(r.Entries) == 0 {
		p.line("Nothing was expected in these days. A policy is judged from its first slot on.")
	}
	var rows, missed, open [][]string
	for _, e := range r.Entries {
		rows = append(rows, []string{
			e.Compliance.Entry.String(), rowWords(e.Row), string(e.Status), percentText(e.Created), percentText(e.ProvenRatio), percentText(e.ProvenNow), percentText(&e.TargetPercent),
			fmt.Sprintf("%d of %d", e.Machines.Met, e.Machines.Total), fmt.Sprint(e.Met), fmt.Sprint(e.Missed), fmt.Sprint(e.Excused), fmt.Sprint(e.Open),
		})
		for _, m := range e.ByMachine {
			for _, x := range m.Expectations {
				if x.State == sla.Missed {
					missed = append(missed, []string{cli.Time(x.Slot), m.Name, rowWords(x.Row), string(x.Reason)})
				}
			}
		}
	}
	for _, o := range r.Open {
		open = append(open, []string{cli.Time(o.Slot), o.Machine.Name(), rowWords(o.Row), cli.Time(o.Deadline)})
	}
	p.table([]string{"ENTRY", "ROW", "STATUS", "CREATED", "PROVEN", "PROVEN NOW", "TARGET", "VMS MET", "MET", "MISSED", "EXCUSED", "OPEN"}, rows)
	if len(missed) > 0 {
		p.line("\nMissed:")
		p.table([]string{"SLOT", "MACHINE", "ROW", "REASON"}, missed)
	}
	if len(open) > 0 {
		p.line("\nStill expected:")
		p.table([]string{"SLOT", "MACHINE", "ROW", "DEADLINE"}, open)
	}
	return p.err
}
