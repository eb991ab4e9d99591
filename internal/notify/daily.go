package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify/subject"
)

// Past is a session of the last day, as the daily report counts it.
type Past struct {
	Session holdfast.Session
	Made    map[holdfast.PointKind]int // points that it made
	Removed int                        // points that retention removed in it
}

// Daily makes the daily report: the cumulative statistics of what ended in the day before an instant. Sessions that ended before
// or after it are passed over, so that each session stands in one report. It goes to the installation's recipients alone.
func Daily(s Settings, due time.Time, sessions []Past) ([]Message, error) {
	if s.Mail == nil || !s.Mail.Enabled || s.Mail.DailyReportAt == nil {
		return nil, nil
	}
	from := due.Add(-DayLength)
	sessions = slices.DeleteFunc(slices.Clone(sessions), func(p Past) bool { return p.Session.Ended.Before(from) || !p.Session.Ended.Before(due) })
	d := gather(sessions)
	line := subject.Line("Holdfast daily report: " + d.verdict())
	return s.compose("daily/"+due.UTC().Format(time.RFC3339), line, d.page(s, from, due), once(s.Mail.Recipients))
}

// day is what was gathered for a report.
type day struct {
	all      sums
	policies []policySums // by name; what belongs to none stands last
	trouble  []Past       // sessions that ended otherwise than well, the newest first
}

type policySums struct {
	name string
	sums
}

// sums are cumulative figures of several sessions.
type sums struct {
	sessions map[holdfast.Outcome]int
	items    holdfast.ItemCounts
	bytes    holdfast.Bytes
	made     map[holdfast.PointKind]int
	removed  int
}

func newSums() *sums {
	return &sums{sessions: map[holdfast.Outcome]int{}, made: map[holdfast.PointKind]int{}}
}

func (s *sums) add(p Past) {
	s.sessions[p.Session.Outcome]++
	i := p.Session.Items
	s.items.Total, s.items.Success, s.items.Warning = s.items.Total+i.Total, s.items.Success+i.Success, s.items.Warning+i.Warning
	s.items.Stopped, s.items.Error = s.items.Stopped+i.Stopped, s.items.Error+i.Error
	s.bytes.Total, s.bytes.Read, s.bytes.Stored = s.bytes.Total+p.Session.Bytes.Total, s.bytes.Read+p.Session.Bytes.Read, s.bytes.Stored+p.Session.Bytes.Stored
	for kind, n := range p.Made {
		s.made[kind] += n
	}
	s.removed += p.Removed
}

func (s *sums) total() int {
	n := 0
	for _, k := range s.sessions {
		n += k
	}
	return n
}

// worst is the worst outcome that there was; none is a success.
func (s *sums) worst() holdfast.Outcome {
	worst := holdfast.OutcomeSuccess
	for o := range s.sessions {
		worst = worst.Worse(o)
	}
	return worst
}

func gather(sessions []Past) day {
	all, byPolicy := newSums(), map[string]*sums{}
	var d day
	for _, p := range sessions {
		all.add(p)
		if byPolicy[p.Session.Policy] == nil {
			byPolicy[p.Session.Policy] = newSums()
		}
		byPolicy[p.Session.Policy].add(p)
		if p.Session.Outcome != holdfast.OutcomeSuccess {
			d.trouble = append(d.trouble, p)
		}
	}
	d.all = *all
	for _, name := range slices.SortedFunc(maps.Keys(byPolicy), func(a, b string) int {
		return cmp.Or(-cmp.Compare(min(len(a), 1), min(len(b), 1)), strings.Compare(a, b))
	}) {
		d.policies = append(d.policies, policySums{name, *byPolicy[name]})
	}
	slices.SortStableFunc(d.trouble, func(a, b Past) int {
		return cmp.Or(b.Session.Ended.Compare(a.Session.Ended), strings.Compare(string(a.Session.ID), string(b.Session.ID)))
	})
	return d
}

// verdict is the report in a few words.
func (d day) verdict() string {
	failed, warned, stopped := d.all.sessions[holdfast.OutcomeError], d.all.sessions[holdfast.OutcomeWarning], d.all.sessions[holdfast.OutcomeStopped]
	n := count(d.all.total(), "session")
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{failed, "failed"}, {stopped, "stopped"}, {warned, "with warnings"}} {
		if part.n > 0 {
			parts = append(parts, strconv.Itoa(part.n)+" "+part.what)
		}
	}
	switch {
	case d.all.total() == 0:
		return "no session ended"
	case len(parts) == 0:
		return n + ", all well"
	}
	return n + ", " + strings.Join(parts, ", ")
}

func (d day) page(s Settings, from, due time.Time) page {
	worst := d.all.worst()
	p := page{
		tone: toneOf(worst), label: "Daily report", title: capital(d.verdict()),
		lead: fmt.Sprintf("What ended from %s to %s.", stamp(from, s.zone()), stamp(due, s.zone())),
		facts: []fact{
			{"Snapshots made", strconv.Itoa(d.all.made[holdfast.PointSnapshot])},
			{"Backups made", strconv.Itoa(d.all.made[holdfast.PointBackup])},
			{"Archives made", strconv.Itoa(d.all.made[holdfast.PointArchive])},
			{"Points removed", strconv.Itoa(d.all.removed)},
			{"Read", size(d.all.bytes.Read)},
			{"Stored", size(d.all.bytes.Stored)},
		},
	}
	if d.all.total() == 0 {
		p.tone, p.remarks = toneNeutral, []string{"No session ended. If policies should have run, see whether the server was up and the policies are enabled."}
		return p
	}
	p.tables = append(p.tables, d.policyTable())
	if len(d.trouble) > 0 {
		p.tables = append(p.tables, d.troubleTable(s))
	}
	return p
}

func (d day) policyTable() table {
	t := table{title: "Policies", columns: []string{"Policy", "Sessions", "Machines", "Read", "Stored"}}
	for _, p := range d.policies[:min(len(d.policies), rowsMax)] {
		name := plain(p.name)
		if name == "" {
			name = "Without a policy"
		}
		r := row{
			tone: toneOf(p.worst()), label: result(p.worst()), name: name,
			cells: []string{strconv.Itoa(p.total()), strconv.Itoa(p.items.Total), size(p.bytes.Read), size(p.bytes.Stored)},
			notes: []string{"Machines: " + tally(p.items) + "."},
		}
		if p.removed > 0 {
			r.notes = append(r.notes, count(p.removed, "point")+" removed.")
		}
		t.rows = append(t.rows, r)
	}
	t.more = len(d.policies) - len(t.rows)
	return t
}

func (d day) troubleTable(s Settings) table {
	t := table{title: "Worth a look", columns: []string{"Session", "Ended", "Duration"}}
	for _, p := range d.trouble[:min(len(d.trouble), rowsMax)] {
		run := p.Session
		name := plain(run.Policy)
		if name == "" {
			name = capital(kindOf(run))
		}
		r := row{
			tone: toneOf(run.Outcome), label: result(run.Outcome), name: name, place: kindOf(run), cells: []string{stamp(run.Ended, s.zone()), took(run.Started, run.Ended)},
			notes: []string{"Machines: " + tally(run.Items) + "."},
		}
		if run.Message != "" {
			r.notes = append(r.notes, sentence(run.Message))
		}
		t.rows = append(t.rows, r)
	}
	t.more = len(d.trouble) - len(t.rows)
	return t
}
