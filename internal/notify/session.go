package notify

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify/subject"
)

// rowsMax is how many machines or sessions one message lists. A policy has at most about as many; what goes on is counted.
const rowsMax = 500

// Finished is a session that is done, retries included.
type Finished struct {
	Session holdfast.Session
	Items   []holdfast.SessionItem
}

// Session makes the messages about a session of a schedule-based policy. Sessions of SLA policies have reports instead.
func Session(s Settings, n holdfast.PolicyNotification, f Finished) ([]Message, error) {
	if s.Mail == nil {
		return nil, nil
	}
	o := f.Session.Outcome
	to := s.recipients(n, wants(o, n.OnSuccess, n.OnWarning, n.OnFailure), wants(o, s.Mail.OnSuccess, s.Mail.OnWarning, s.Mail.OnFailure))
	line := subject.Fill(s.Mail.Subject, map[string]string{
		subject.JobResult: result(o), subject.JobName: f.Session.Policy, subject.ObjectCount: strconv.Itoa(f.machines()), subject.Issues: f.issues(),
	})
	return s.compose("session/"+string(f.Session.ID), line, f.page(s), to)
}

// wants picks the switch of an outcome. A session that was stopped ended otherwise than planned, which is a warning's case.
func wants(o holdfast.Outcome, success, warning, failure bool) bool {
	switch o {
	case holdfast.OutcomeSuccess:
		return success
	case holdfast.OutcomeWarning, holdfast.OutcomeStopped:
		return warning
	case holdfast.OutcomeError:
		return failure
	}
	return false
}

func (f Finished) machines() int { return max(f.Session.Items.Total, len(f.Items)) }

// issues counts the machines that failed or have a warning, in words; "" when there is none.
func (f Finished) issues() string {
	if n := f.Session.Items.Error + f.Session.Items.Warning; n > 0 {
		return strconv.Itoa(n) + " with issues"
	}
	return ""
}

func (f Finished) page(s Settings) page {
	run := f.Session
	p := page{
		tone: toneOf(run.Outcome), label: result(run.Outcome), title: plain(run.Policy),
		lead: capital(kindOf(run)) + " of " + count(f.machines(), "machine") + ": " + tally(run.Items) + ".",
		facts: []fact{
			{"Started", stamp(run.Started, s.zone())},
			{"Ended", stamp(run.Ended, s.zone())},
			{"Duration", took(run.Started, run.Ended)},
			{"Size of disks", size(run.Bytes.Total)},
			{"Read", size(run.Bytes.Read)},
			{"Stored", size(run.Bytes.Stored)},
		},
	}
	if run.Manual {
		by := "yes"
		if run.By != "" {
			by = "by " + plain(run.By)
		}
		p.facts = append(p.facts, fact{"Started by hand", by})
	}
	if run.Message != "" {
		p.remarks = append(p.remarks, sentence(run.Message))
	}
	if len(f.Items) > 0 {
		p.tables = []table{f.table()}
	}
	return p
}

// tally tells how machines ended, worst first; outcomes that none had are left out.
func tally(c holdfast.ItemCounts) string {
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{c.Error, "failed"}, {c.Stopped, "stopped"}, {c.Warning, "with a warning"}, {c.Success, "succeeded"}} {
		if part.n > 0 {
			parts = append(parts, strconv.Itoa(part.n)+" "+part.what)
		}
	}
	if len(parts) == 0 {
		return "there was nothing to do"
	}
	return strings.Join(parts, ", ")
}

// table has a row for each machine, the worst first, so that what is cut off or scrolled past is well.
func (f Finished) table() table {
	items := slices.SortedStableFunc(slices.Values(f.Items), func(a, b holdfast.SessionItem) int {
		return cmp.Or(
			cmp.Compare(slices.Index(holdfast.Outcomes(), b.Outcome), slices.Index(holdfast.Outcomes(), a.Outcome)),
			strings.Compare(a.VM.Name(), b.VM.Name()), strings.Compare(a.VM.Key(), b.VM.Key()),
		)
	})
	t := table{title: "Machines", columns: []string{"Machine", "Duration", "Size", "Read", "Stored"}}
	for _, i := range items[:min(len(items), rowsMax)] {
		t.rows = append(t.rows, row{
			tone: toneOf(i.Outcome), label: result(i.Outcome), name: plain(i.VM.Name()), place: place(i), notes: notes(i),
			cells: []string{took(i.Started, i.Ended), size(i.Bytes.Total), size(i.Bytes.Read), size(i.Bytes.Stored)},
		})
	}
	t.more = len(items) - len(t.rows)
	return t
}

func place(i holdfast.SessionItem) string {
	parts := []string{plain(i.VM.ResourceGroup()), plain(i.Region)}
	return strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), ", ")
}

// notes are what a person should know of a machine: what is wrong, what to do, and that it took several attempts.
func notes(i holdfast.SessionItem) []string {
	var all []string
	for _, text := range []string{i.Message, i.Hint} {
		if text = sentence(text); text != "" {
			all = append(all, text)
		}
	}
	if i.Attempts > 1 {
		all = append(all, count(i.Attempts, "attempt")+".")
	}
	return all
}
