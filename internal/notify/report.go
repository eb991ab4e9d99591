package notify

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify/subject"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// Report makes the messages about a closed entry of an SLA policy: what was asked for in a day, week or month, and what came. A policy
// that reports missed targets alone is silent about an entry where the target is met and no machine missed anything or
// was removed; what it reports lists those machines alone.
func Report(s Settings, n holdfast.PolicyNotification, c sla.Compliance, machines []sla.MachineCompliance) ([]Message, error) {
	if s.Mail == nil {
		return nil, nil
	}
	told := machines
	if n.OnlyMissed {
		told = slices.DeleteFunc(slices.Clone(machines), func(m sla.MachineCompliance) bool { return m.Status != sla.MissedSLA && m.Status != sla.Removed })
		if len(told) == 0 && c.Status != sla.MissedSLA {
			return nil, nil
		}
	}
	line := subject.Fill(s.Mail.SLASubject, map[string]string{
		subject.JobName: c.Policy, subject.ObjectCount: strconv.Itoa(c.Machines.Total), subject.SLAType: slaType(c.Row), subject.SLAPeriod: period(c), subject.SLAStatus: status(c.Status),
	})
	return s.compose(reportKey(c), line, reportPage(s, c, told, n.OnlyMissed), s.recipients(n, true, true))
}

func reportKey(c sla.Compliance) string {
	return fmt.Sprintf("sla/%s/%s/%s/%s", c.Kind, c.Flag, c.Entry, c.Policy)
}

func slaType(r sla.Row) string { return capital(r.Flag.String()) + " " + string(r.Kind) + " SLA" }

// period names the entry: a day, a week by its Monday, or a month.
func period(c sla.Compliance) string {
	switch c.Flag {
	case holdfast.Weekly:
		return "week of " + c.Entry.String()
	case holdfast.Monthly:
		return fmt.Sprintf("%s %d", c.Entry.Month, c.Entry.Year)
	case holdfast.Daily, holdfast.Yearly:
	}
	return c.Entry.String()
}

func status(s sla.Status) string {
	switch s {
	case sla.MetSLA:
		return "met"
	case sla.MissedSLA:
		return "missed"
	case sla.Removed:
		return "removed"
	case sla.None:
	}
	return "not rated"
}

func statusTone(s sla.Status) tone {
	switch s {
	case sla.MetSLA:
		return toneGood
	case sla.MissedSLA:
		return toneBad
	case sla.Removed:
		return toneWarning
	case sla.None:
	}
	return toneNeutral
}

func reportPage(s Settings, c sla.Compliance, told []sla.MachineCompliance, onlyMissed bool) page {
	target := c.TargetPercent
	p := page{
		tone: statusTone(c.Status), label: capital(status(c.Status)), title: plain(c.Policy),
		lead: fmt.Sprintf("%s, %s: %s of what was asked for came in time, %s is the target.", slaType(c.Row), period(c), percent(c.Created), percent(&target)),
		facts: []fact{
			{"Machines", strconv.Itoa(c.Machines.Total)},
			{"Met", strconv.Itoa(c.Machines.Met)},
			{"Missed", strconv.Itoa(c.Machines.Missed)},
			{"Removed", strconv.Itoa(c.Machines.Removed)},
			{"Proven", percent(c.ProvenRatio)},
			{"Closed", stamp(c.Closed, s.zone())},
		},
	}
	if c.Created == nil {
		p.lead = fmt.Sprintf("%s, %s: nothing was met or missed.", slaType(c.Row), period(c))
	}
	if onlyMissed {
		p.remarks = append(p.remarks, "Only machines that missed something or were removed are listed.")
	}
	if len(told) > 0 {
		p.tables = []table{complianceTable(told)}
	}
	return p
}

// complianceTable has a row for each machine: missed ones first, then removed ones.
func complianceTable(machines []sla.MachineCompliance) table {
	order := []sla.Status{sla.MissedSLA, sla.Removed, sla.None, sla.MetSLA}
	sorted := slices.SortedStableFunc(slices.Values(machines), func(a, b sla.MachineCompliance) int {
		return cmp.Or(
			cmp.Compare(slices.Index(order, a.Status), slices.Index(order, b.Status)),
			strings.Compare(a.Machine.Name(), b.Machine.Name()), strings.Compare(a.Machine.Key(), b.Machine.Key()),
		)
	})
	t := table{title: "Machines", columns: []string{"Machine", "In time", "Missed", "Ratio", "Proven"}}
	for _, m := range sorted[:min(len(sorted), rowsMax)] {
		t.rows = append(t.rows, row{
			tone: statusTone(m.Status), label: capital(status(m.Status)), name: plain(m.Machine.Name()), place: plain(m.Machine.ResourceGroup()),
			cells: []string{strconv.Itoa(m.Met), strconv.Itoa(m.Missed), percent(m.Created), percent(m.ProvenRatio)},
		})
	}
	t.more = len(sorted) - len(t.rows)
	return t
}

// Missed makes the messages that raise the alarm about slots of an SLA policy which were missed, one message for all that
// are handed in. Expectations that were not missed are passed over.
func Missed(s Settings, n holdfast.PolicyNotification, policy string, expectations []sla.Expectation) ([]Message, error) {
	missed := missedOf(expectations)
	if s.Mail == nil || len(missed) == 0 {
		return nil, nil
	}
	line := subject.Line(fmt.Sprintf("[Missed] %s: %s without a point in time", policy, count(len(missed), "slot")))
	return s.compose(missedKey(policy, missed), line, missedPage(s, policy, missed), s.recipients(n, true, true))
}

// missedOf returns the expectations that were missed, in the order in which they were.
func missedOf(expectations []sla.Expectation) []sla.Expectation {
	missed := slices.DeleteFunc(slices.Clone(expectations), func(e sla.Expectation) bool { return e.State != sla.Missed })
	slices.SortStableFunc(missed, func(a, b sla.Expectation) int {
		return cmp.Or(a.Ended.Compare(b.Ended), a.Slot.Compare(b.Slot), strings.Compare(a.Machine.Key(), b.Machine.Key()), strings.Compare(string(a.Kind), string(b.Kind)))
	})
	return missed
}

// missedKey names an alarm by the slots it is about.
func missedKey(policy string, missed []sla.Expectation) string {
	h := sha256.New()
	for _, e := range missed {
		fmt.Fprintf(h, "%s\n%s\n%d\n%d\n", e.Machine.Key(), e.Kind, e.Flag, e.Slot.UnixMilli())
	}
	return "missed/" + hex.EncodeToString(h.Sum(nil)[:16]) + "/" + policy
}

func missedPage(s Settings, policy string, missed []sla.Expectation) page {
	machines := make(map[string]bool)
	for _, e := range missed {
		machines[e.Machine.Key()] = true
	}
	p := page{
		tone: toneBad, label: "Missed", title: plain(policy),
		lead: fmt.Sprintf("%s of %s passed without a point in time.", count(len(missed), "slot"), count(len(machines), "machine")),
	}
	t := table{title: "Missed slots", columns: []string{"Machine", "Point", "Slot", "Deadline"}}
	for _, e := range missed[:min(len(missed), rowsMax)] {
		r := row{tone: toneBad, name: plain(e.Machine.Name()), place: plain(e.Region), cells: []string{
			e.Flag.String() + " " + string(e.Kind), stamp(e.Slot, s.zone()), stamp(e.Deadline, s.zone()),
		}}
		if why := reasons[e.Reason]; why != "" {
			r.notes = []string{sentence(why)}
		}
		t.rows = append(t.rows, r)
	}
	t.more = len(missed) - len(t.rows)
	p.tables = []table{t}
	return p
}

// DayLength is what a daily report looks back on.
const DayLength = 24 * time.Hour
