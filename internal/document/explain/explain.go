// Package explain says in sentences what documents will do: whom a policy protects, what it makes when, where that goes and
// how long it stays. It is what `holdfast policy check` prints, and what a summary on a web page shows.
//
// It promises that each row of a policy or template has a sentence of its own, and that nothing is said which the documents do
// not say: which machines there are today, and what will run next, is told by the engines. It is pure, and expects documents
// that were checked.
package explain

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// Explanation is what one document will do.
type Explanation struct {
	Kind      string   `json:"kind"`
	Name      string   `json:"name"` // "" for the installation
	Sentences []string `json:"sentences"`
}

// The kinds of explanation are those of documents.
const (
	kindSchedulePolicy  = "SchedulePolicy"
	kindSLAPolicy       = "SLAPolicy"
	kindSLATemplate     = "SLATemplate"
	kindStorageTemplate = "StorageTemplate"
	kindRepository      = "Repository"
	kindInstallation    = "Installation"
)

// Documents explains each document of a set: policies in the order in which machines are given to them, then what they rest
// on.
func Documents(d holdfast.Documents) []Explanation {
	var all []Explanation
	for _, p := range d.SLAPolicies {
		all = append(all, Explanation{kindSLAPolicy, p.Name, slaPolicy(d, p)})
	}
	for _, p := range d.SchedulePolicies {
		all = append(all, Explanation{kindSchedulePolicy, p.Name, schedulePolicy(d, p)})
	}
	for _, t := range d.SLATemplates {
		all = append(all, Explanation{kindSLATemplate, t.Name, slaTemplate(t)})
	}
	for _, t := range d.StorageTemplates {
		all = append(all, Explanation{kindStorageTemplate, t.Name, storageTemplate(t)})
	}
	for _, r := range d.Repositories {
		all = append(all, Explanation{kindRepository, r.Name, []string{repository(r)}})
	}
	return append(all, Explanation{kindInstallation, "", installation(d.Installation)})
}

func schedulePolicy(d holdfast.Documents, p holdfast.SchedulePolicy) []string {
	sentences := common(p.PolicyCommon, "schedules")
	zone := p.Zone
	if zone == "" {
		zone = d.Installation.Zone
	}
	if len(p.Rows) == 0 {
		sentences = append(sentences, "It has no schedule, and runs when somebody starts it.")
	}
	for _, row := range p.Rows {
		sentences = append(sentences, scheduleRow(row))
	}
	if len(p.Rows) > 0 {
		sentences = append(sentences, "Its times are those of "+zone+".")
	}
	sentences = append(sentences, retries(p.Retries))
	if p.HealthCheck != nil {
		sentences = append(sentences, healthCheck(*p.HealthCheck))
	}
	return append(sentences, runNotification(p.Notify))
}

func scheduleRow(row holdfast.ScheduleRow) string {
	when := title(row.Flag.String()) + ", " + calendar(row.When) + ": "
	switch row.Kind {
	case holdfast.PointSnapshot:
		return when + "a snapshot; " + keepCount(row.KeepCount)
	case holdfast.PointArchive:
		return fmt.Sprintf("%san archive of the newest backup to %q, kept for %s.", when, row.Repository, row.KeepFor)
	case holdfast.PointBackup:
	}
	return fmt.Sprintf("%sa backup to %q, kept for %s.", when, row.Repository, row.KeepFor)
}

func keepCount(n int) string {
	switch n {
	case 0:
		return "none is kept for this schedule's sake."
	case 1:
		return "the newest one is kept."
	}
	return fmt.Sprintf("the newest %d are kept.", n)
}

// calendar says when a row is due: weekdays at 07:00, or the first monday of january and july at 07:00.
func calendar(c holdfast.Calendar) string {
	day := days(c.Days)
	if !c.On.IsZero() {
		day = monthDay(c.On) + " of " + months(c.Months)
	} else if c.Months != 0 && c.Months != holdfast.EveryMonth {
		day += " of " + months(c.Months)
	}
	if len(c.Times) == 0 {
		return day
	}
	return day + " at " + times(c.Times)
}

func days(set holdfast.Weekdays) string {
	switch text := set.String(); set {
	case holdfast.NoWeekdays:
		return "every day"
	case holdfast.WeekendDays:
		return "saturday and sunday"
	case holdfast.EveryDay, holdfast.WorkingDays:
		return text
	default:
		return list(strings.Fields(text))
	}
}

// shortestMonth has so many days; a later one is not in every month.
const shortestMonth = 28

// monthDay names a day of the month: the first monday, the last day, day 15.
func monthDay(d holdfast.MonthDay) string {
	switch {
	case !d.OnDate() || d.Day == holdfast.LastDay:
		return "the " + d.String()
	case d.Day > shortestMonth:
		return d.String() + " (in a shorter month the last one)"
	}
	return d.String()
}

func months(set holdfast.MonthSet) string {
	if set == 0 || set == holdfast.EveryMonth {
		return "every month"
	}
	return list(strings.Fields(set.String()))
}

// timesMax is how many times of a day are told one by one.
const timesMax = 6

func times(all []holdfast.TimeOfDay) string {
	var hours, words []string
	for _, t := range all {
		words = append(words, t.String())
		if hour := strconv.Itoa(t.Hour()); !slices.Contains(hours, hour) {
			hours = append(hours, hour)
		}
	}
	if len(all) <= timesMax {
		return list(words)
	}
	if perHour := len(all) / len(hours); perHour > 1 {
		return fmt.Sprintf("every %d minutes of the hours %s", 60/perHour, list(hours))
	}
	return "the hours " + list(hours)
}

// list joins words for a sentence: a, b and c.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

// title writes a word as a sentence begins.
func title(word string) string { return strings.ToUpper(word[:1]) + word[1:] }

func healthCheck(h holdfast.HealthCheck) string {
	when := calendar(h.When)
	if h.When.Days != holdfast.EveryDay {
		when = "on " + when
	}
	return "Backups are checked " + when + ", after the last session of the day."
}

func retries(n int) string {
	switch n {
	case 0:
		return "Machines that failed are not tried again before the next run."
	case 1:
		return fmt.Sprintf("Machines that failed are tried again once, %s later.", minutes())
	}
	return fmt.Sprintf("Machines that failed are tried again up to %d times, %s apart.", n, minutes())
}

func minutes() string { return fmt.Sprintf("%d minutes", int(holdfast.RetryAfter.Minutes())) }

func runNotification(n holdfast.PolicyNotification) string {
	if !n.Enabled {
		return "Nobody is told of its sessions."
	}
	var outcomes []string
	for _, o := range []struct {
		told bool
		word string
	}{{n.OnSuccess, "succeeded"}, {n.OnWarning, "ended with a warning"}, {n.OnFailure, "failed"}} {
		if o.told {
			outcomes = append(outcomes, o.word)
		}
	}
	if len(outcomes) == 0 {
		return "Nobody is told of its sessions, whatever comes of them."
	}
	return told(n.Recipients) + " of sessions that " + strings.Join(outcomes, " or ") + "."
}

func told(recipients []string) string {
	switch len(recipients) {
	case 0:
		return "The installation's recipients are told"
	case 1:
		return recipients[0] + " and the installation's recipients are told"
	}
	return list(append(slices.Clone(recipients), "the installation's recipients")) + " are told"
}
