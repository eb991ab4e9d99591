package document

import (
	"bytes"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

// Write writes documents in their canonical form: one document after the other, in it each field that has not its default,
// in one order and with one spelling. Read makes the same documents of it. The settings of the installation are left out
// when they are the defaults, or not set at all, so that a part of a set can be written by itself. The error has
// KindInvalid: something does not come from a document and cannot be written as one.
func Write(d holdfast.Documents) ([]byte, error) {
	w := &writer{}
	if i := d.Installation; !sameInstallation(i, defaultInstallation()) && !sameInstallation(i, holdfast.Installation{}) {
		w.installation(i)
	}
	for _, r := range d.Repositories {
		w.put(KindRepository, r.Name, repositoryFieldsOf(r))
	}
	for _, t := range d.StorageTemplates {
		w.put(KindStorageTemplate, t.Name, storageTemplateFieldsOf(t))
	}
	for _, t := range d.SLATemplates {
		w.slaTemplate(t)
	}
	for _, p := range d.SchedulePolicies {
		w.schedulePolicy(p)
	}
	for _, p := range d.SLAPolicies {
		w.put(KindSLAPolicy, p.Name, slaPolicyFieldsOf(p))
	}
	return w.out.Bytes(), w.err
}

// writer gathers documents; after an error it writes no more.
type writer struct {
	out bytes.Buffer
	err error
}

func (w *writer) put(kind, name string, fields any) {
	if w.err != nil {
		return
	}
	text, err := strictyaml.Encode(fields)
	if err != nil {
		w.err = holdfast.Wrap(holdfast.KindInvalid, err, "the %s %q cannot be written", kind, name)
		return
	}
	if w.out.Len() > 0 {
		w.out.WriteString("---\n")
	}
	w.out.Write(text)
}

// strange refuses what no document could have led to.
func (w *writer) strange(kind, name, what string) {
	if w.err == nil {
		w.err = holdfast.Errorf(holdfast.KindInvalid, "the %s %q cannot be written: %s", kind, name, what)
	}
}

// unless returns a pointer to a value, or nil when it is the default.
func unless[T comparable](value, byDefault T) *T {
	if value == byDefault {
		return nil
	}
	return &value
}

// given returns a pointer to a value, or nil when it is zero.
func given[T comparable](value T) *T {
	var zero T
	return unless(value, zero)
}

func (w *writer) installation(i holdfast.Installation) {
	f := installationFields{Kind: KindInstallation, RetentionAt: unless(i.RetentionAt, retentionAtDefault)}
	if i.Zone != zoneDefault {
		f.Zone = i.Zone
	}
	if !i.ObsoleteAge.IsZero() {
		f.GlobalRetention = &globalRetentionFields{Age: i.ObsoleteAge, AllSnapshots: !i.SnapshotAge.IsZero(), UnprotectedBackups: !i.UnprotectedAge.IsZero()}
	}
	for _, age := range []holdfast.Period{i.SnapshotAge, i.UnprotectedAge} {
		if !age.IsZero() && age != i.ObsoleteAge {
			w.strange(KindInstallation, "", "its global ages differ")
		}
	}
	if !i.SessionRecordAge.IsZero() {
		f.SessionRecords = &sessionRecordFields{Keep: i.SessionRecordAge}
	}
	if m := i.Mail; m != nil {
		f.Mail = &mailFields{
			Enabled: unless(m.Enabled, true), Server: m.Server, Port: unless(m.Port, mailPortDefault), TLS: unless(string(m.TLS), string(holdfast.MailTLSStart)),
			TimeoutSeconds: unless(int(m.Timeout/time.Second), int(mailTimeoutDefault/time.Second)), User: m.User, PasswordFrom: secretFieldsOf(m.Password), From: m.From,
			Recipients: m.Recipients, Subject: unless(m.Subject, mailSubjectDefault), SLASubject: unless(m.SLASubject, slaSubjectDefault),
			OnSuccess: unless(m.OnSuccess, true), OnWarning: unless(m.OnWarning, true), OnFailure: unless(m.OnFailure, true), DailyReportAt: m.DailyReportAt,
		}
	}
	for _, hook := range i.Webhooks {
		f.Webhooks = append(f.Webhooks, webhookFieldsOf(hook))
	}
	w.put(KindInstallation, "", &f)
}

// sameInstallation compares settings of which one has neither mail nor webhooks.
func sameInstallation(a, b holdfast.Installation) bool {
	return a.Zone == b.Zone && a.RetentionAt == b.RetentionAt && a.ObsoleteAge == b.ObsoleteAge && a.SnapshotAge == b.SnapshotAge && a.UnprotectedAge == b.UnprotectedAge &&
		a.SessionRecordAge == b.SessionRecordAge && a.Mail == b.Mail && len(a.Webhooks) == len(b.Webhooks)
}

func webhookFieldsOf(hook holdfast.Webhook) webhookFields {
	f := webhookFields{URL: hook.URL, SecretFrom: secretFieldsOf(hook.Secret)}
	if slices.Equal(hook.Events, holdfast.WebhookEvents()) {
		return f
	}
	for _, event := range hook.Events {
		f.Events = append(f.Events, string(event))
	}
	return f
}

func secretFieldsOf(s holdfast.SecretSource) *secretFields {
	return given(secretFields{File: s.File, Environment: s.Environment, VaultSecret: s.VaultSecret})
}

func repositoryFieldsOf(r holdfast.RepositorySpec) *repositoryFields {
	return &repositoryFields{
		header: header{KindRepository, r.Name, r.Description}, URL: r.URL, Region: r.Region, Tier: unless(string(r.Tier), string(holdfast.TierInferred)), Redundancy: string(r.Redundancy),
		Encrypted: unless(r.Encrypted, true), Immutable: r.Immutable, Concurrency: given(r.Concurrency), PasswordFrom: secretFieldsOf(r.Password), VaultKey: r.KeyID,
	}
}

func storageTemplateFieldsOf(t holdfast.StorageTemplate) *storageTemplateFields {
	place := func(p holdfast.Placement) *placementFields {
		if p.Default == "" && len(p.Regions) == 0 {
			return nil
		}
		return &placementFields{p.Default, p.Regions}
	}
	return &storageTemplateFields{header{KindStorageTemplate, t.Name, t.Description}, place(t.Backups), place(t.Archives)}
}

func (w *writer) slaTemplate(t holdfast.SLATemplate) {
	grace := holdfast.Minutes(int(t.Grace / time.Minute))
	if t.Grace%time.Hour == 0 {
		grace = holdfast.Hours(int(t.Grace / time.Hour))
	}
	f := &slaTemplateFields{
		header: header{KindSLATemplate, t.Name, t.Description}, Target: unless(t.TargetPercent, targetDefault), Grace: unless(grace, holdfast.Hours(1)),
		ChangedRanges: unless(t.ChangedRanges, true),
		Snapshots:     slaRowsFieldsOf(t, holdfast.PointSnapshot, t.SnapshotWindow), Backups: slaRowsFieldsOf(t, holdfast.PointBackup, t.BackupWindow),
	}
	f.Proof = given(proofFields{Level: unless(t.ProofLevel, proofLevelDefault), Within: unless(t.ProofAge, holdfast.Days(proofDaysDefault))})
	if h := t.HealthCheck; h != nil {
		f.HealthCheck = &monthlyCheckFields{h.When.On, wordsOfMonths(h.When.Months)}
	}
	for _, row := range t.Rows {
		if row.Kind == holdfast.PointArchive {
			f.Archives = slaMonthlyFieldsOf(row)
		}
	}
	page := scratch()
	if again := page.slaTemplate(*f); page.broken || !slices.Equal(again.Rows, t.Rows) || again.Grace != t.Grace || again.SnapshotWindow != t.SnapshotWindow || again.BackupWindow != t.BackupWindow || !sameCheck(again.HealthCheck, t.HealthCheck) {
		w.strange(KindSLATemplate, t.Name, "its rows, windows or grace are none that a document leads to")
	}
	w.put(KindSLATemplate, t.Name, f)
}

func slaRowsFieldsOf(t holdfast.SLATemplate, kind holdfast.PointKind, window holdfast.Window) *slaRowsFields {
	var f slaRowsFields
	if window != (holdfast.Window{}) {
		f.Window = &windowFields{&window.Opens, &window.Closes}
	}
	for _, row := range t.Rows {
		if row.Kind != kind {
			continue
		}
		switch row.Flag {
		case holdfast.Daily:
			f.Daily = &slaDailyFields{row.Every, row.KeepFor}
		case holdfast.Weekly:
			f.Weekly = &slaWeeklyFields{wordsOfDays(row.Days), row.KeepFor}
		case holdfast.Monthly, holdfast.Yearly:
			f.Monthly = slaMonthlyFieldsOf(row)
		}
	}
	return given(f)
}

func slaMonthlyFieldsOf(row holdfast.SLARow) *slaMonthlyFields {
	return &slaMonthlyFields{row.On, wordsOfMonths(row.Months), row.KeepFor}
}

func healthCheckFieldsOf(h *holdfast.HealthCheck) *healthCheckFields {
	if h == nil {
		return nil
	}
	return &healthCheckFields{wordsOfDays(h.When.Days), h.When.On, wordsOfMonths(h.When.Months)}
}

func sameCheck(a, b *holdfast.HealthCheck) bool {
	if a == nil || b == nil {
		return a == b
	}
	return sameCalendar(a.When, b.When)
}

// scratch is a page that nobody reads, on which fields are made into nouns again to see whether the same comes out.
func scratch() *page {
	return &page{Document: &strictyaml.Document{}, reader: &reader{names: map[string]map[string]*page{}}}
}
