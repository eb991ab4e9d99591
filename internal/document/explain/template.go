package explain

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast"
)

func slaPolicy(d holdfast.Documents, p holdfast.SLAPolicy) []string {
	sentences := common(p.PolicyCommon, "SLA policies, which go before all schedules")
	asked := fmt.Sprintf("It asks for what the SLA template %q says", p.Template)
	if template, ok := d.SLATemplate(p.Template); ok {
		asked += fmt.Sprintf(", and is met when %s %% of it exist", number(template.TargetPercent))
	}
	sentences = append(sentences, asked+".")
	if storage, ok := d.StorageTemplate(p.Storage); ok {
		sentences = append(sentences, places(p.Sources.Regions, storage)...)
	}
	return append(sentences, retries(p.Retries), slaNotification(p.Notify))
}

// places says where the points of the policy's regions go.
func places(regions []string, t holdfast.StorageTemplate) []string {
	var sentences []string
	for _, kind := range []struct {
		what  string
		place holdfast.Placement
	}{{"Backups", t.Backups}, {"Archives", t.Archives}} {
		by := map[string][]string{}
		for _, region := range regions {
			if name := kind.place.In(region); name != "" {
				by[name] = append(by[name], region)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(by)) {
			sentences = append(sentences, fmt.Sprintf("%s of machines in %s go to %q.", kind.what, list(by[name]), name))
		}
	}
	return sentences
}

func slaNotification(n holdfast.PolicyNotification) string {
	if !n.Enabled {
		return "Nobody is told of its targets."
	}
	what, when := "of its targets", "as soon as the window closed in all regions"
	if n.OnlyMissed {
		what = "of missed targets and removed machines alone"
	}
	if n.At != nil {
		when = "at " + n.At.String() + " on the day after the window closed in all regions"
	}
	return told(n.Recipients) + " " + what + ", " + when + "."
}

func number(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }

func slaTemplate(t holdfast.SLATemplate) []string {
	var sentences []string
	for _, row := range t.Rows {
		sentences = append(sentences, slaRow(t, row))
	}
	sentences = append(sentences,
		fmt.Sprintf("The target is met when %s %% of what is asked for exist, each in time: before its next slot, or %s after its window closed, but at least 15 minutes after its own.",
			number(t.TargetPercent), length(t.Grace)),
		fmt.Sprintf("A point counts as proven while a proof of level %d or better is not older than %s.", t.ProofLevel, t.ProofAge))
	if slices.ContainsFunc(t.Rows, func(r holdfast.SLARow) bool { return r.Kind == holdfast.PointBackup }) {
		how := "Backups read whole disks each time."
		if t.ChangedRanges {
			how = "Backups read what changed since the last one, for which a snapshot of each disk is kept."
		}
		sentences = append(sentences, how)
	}
	if t.HealthCheck != nil {
		sentences = append(sentences, healthCheck(*t.HealthCheck))
	}
	return sentences
}

func length(d time.Duration) string {
	if d%time.Hour == 0 {
		return holdfast.Hours(int(d / time.Hour)).String()
	}
	return holdfast.Minutes(int(d / time.Minute)).String()
}

func slaRow(t holdfast.SLATemplate, row holdfast.SLARow) string {
	window := t.BackupWindow
	if row.Kind == holdfast.PointSnapshot {
		window = t.SnapshotWindow
	}
	kept := fmt.Sprintf(", kept for %s.", row.KeepFor)
	switch {
	case row.Kind == holdfast.PointArchive:
		return fmt.Sprintf("An archive on %s of %s, made of that day's backup or the newest one%s", monthDay(row.On), months(row.Months), kept)
	case row.Flag == holdfast.Daily:
		return fmt.Sprintf("A %s every %s %s%s", row.Kind, frequency(row.Every), windowWords(window), kept)
	case row.Flag == holdfast.Weekly:
		return fmt.Sprintf("A weekly %s, the first one of the window on %s%s", row.Kind, days(row.Days), kept)
	}
	return fmt.Sprintf("A monthly %s, the first one of the window on %s of %s%s", row.Kind, monthDay(row.On), months(row.Months), kept)
}

// frequency is a period behind the word every: hour, 8 hours.
func frequency(p holdfast.Period) string {
	if p.N == 1 {
		return string(p.Unit)
	}
	return p.String()
}

func windowWords(w holdfast.Window) string {
	switch {
	case w.Opens == w.Closes && w.Opens == 0:
		return "around the clock"
	case w.Opens == w.Closes:
		return "around the clock, from " + w.Opens.String() + " on"
	case w.CrossesMidnight():
		return fmt.Sprintf("from %s to %s of the next day on the clock of each region", w.Opens, w.Closes)
	}
	return fmt.Sprintf("from %s to %s on the clock of each region", w.Opens, w.Closes)
}

func storageTemplate(t holdfast.StorageTemplate) []string {
	sentences := []string{"Backups go " + placement(t.Backups) + "."}
	if t.Archives.Default != "" || len(t.Archives.Regions) > 0 {
		sentences = append(sentences, "Archives go "+placement(t.Archives)+".")
	}
	return sentences
}

func placement(p holdfast.Placement) string {
	by := map[string][]string{}
	for _, region := range slices.Sorted(maps.Keys(p.Regions)) {
		by[p.Regions[region]] = append(by[p.Regions[region]], region)
	}
	delete(by, p.Default) // told with the rest
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(by)) {
		parts = append(parts, fmt.Sprintf("from %s to %q", list(by[name]), name))
	}
	switch {
	case p.Default == "":
		return list(parts)
	case len(parts) == 0:
		return fmt.Sprintf("to %q", p.Default)
	}
	return list(append(parts, fmt.Sprintf("from everywhere else to %q", p.Default)))
}

func repository(r holdfast.RepositorySpec) string {
	words := "It is " + r.URL
	if r.Region != "" {
		words += " in " + r.Region
	}
	if r.Tier != holdfast.TierInferred {
		words += ", tier " + string(r.Tier)
	}
	if r.Redundancy != "" {
		words += ", redundancy " + string(r.Redundancy)
	}
	if !r.Encrypted {
		words += ", not encrypted"
	}
	if r.Immutable {
		words += ", locked as long as what needs it is kept"
	}
	if r.Concurrency > 0 {
		words += fmt.Sprintf(", written by at most %d machines' backups at once", r.Concurrency)
	}
	return words + opened(r) + "."
}

func opened(r holdfast.RepositorySpec) string {
	switch s := r.Password; {
	case r.KeyID != "":
		return ", opened by the vault key " + r.KeyID
	case s.File != "":
		return ", opened by the password in the file " + s.File
	case s.Environment != "":
		return ", opened by the password in the variable " + s.Environment
	case s.VaultSecret != "":
		return ", opened by the password in the vault's secret " + s.VaultSecret
	}
	return ""
}

func installation(i holdfast.Installation) []string {
	sentences := []string{fmt.Sprintf("Retention runs every day at %s in %s, where schedules that name no zone are at home.", i.RetentionAt, i.Zone)}
	if i.ObsoleteAge.IsZero() {
		sentences = append(sentences, "Snapshots of machines that no policy protects stay as long as the retention stored with them says.")
	} else {
		sentences = append(sentences, fmt.Sprintf("Snapshots of machines that no policy protects go after %s.", i.ObsoleteAge))
	}
	if !i.SnapshotAge.IsZero() {
		sentences = append(sentences, fmt.Sprintf("Snapshots that policies made go after %s whatever their policies say; the last good one of a protected machine stays.", i.SnapshotAge))
	}
	if !i.UnprotectedAge.IsZero() {
		sentences = append(sentences, fmt.Sprintf("Backups of machines that no policy protects go after %s.", i.UnprotectedAge))
	}
	records := "Records of sessions are kept for ever."
	if !i.SessionRecordAge.IsZero() {
		records = fmt.Sprintf("Records of sessions are kept for %s.", i.SessionRecordAge)
	}
	sentences = append(sentences, records, mail(i.Mail))
	for _, hook := range i.Webhooks {
		sentences = append(sentences, webhook(hook))
	}
	return sentences
}

func webhook(hook holdfast.Webhook) string {
	told := map[holdfast.WebhookEvent]string{
		holdfast.EventSessionEnded: "sessions that ended", holdfast.EventSLAReported: "closed days, weeks and months of SLA policies", holdfast.EventSlotsMissed: "missed slots",
	}
	var words []string
	for _, event := range hook.Events {
		words = append(words, told[event])
	}
	return fmt.Sprintf("%s is told of %s.", hook.URL, list(words))
}

func mail(m *holdfast.Mail) string {
	switch {
	case m == nil:
		return "No mail is sent."
	case !m.Enabled:
		return fmt.Sprintf("No mail is sent, though %s is set up.", m.Server)
	case m.DailyReportAt != nil:
		return fmt.Sprintf("Mail goes through %s from %s; a report of the last 24 hours goes out at %s.", m.Server, m.From, m.DailyReportAt)
	}
	return fmt.Sprintf("Mail goes through %s from %s.", m.Server, m.From)
}
