package explain_test

import (
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/document/explain"
)

const repositories = `
---
kind: Repository
name: hot
url: /srv/hot
passwordFrom: {file: /etc/hot}
---
kind: Repository
name: vault
url: azblob://account/vault
region: westeurope
tier: archive
concurrency: 3
passwordFrom: {environment: VAULT}
---
kind: Repository
name: locked
url: azblob://account/locked
region: westeurope
immutable: true
vaultKey: https://v.vault.azure.net/keys/k
`

// TestDocuments says every row, and every setting that is not its default, in words that somebody without the document
// understands.
func TestDocuments(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // sentences that are told, one a line, in this order
	}{
		{
			`kind: SchedulePolicy
name: shop
sources: {regions: [westeurope, northeurope], all: true, onboardByTag: true, exclude: [{tag: {name: a, value: b}}]}
daily: {snapshots: {hours: [0, 1, 2, 3, 4, 5, 6], perHour: 4, keep: 300}, backups: {hours: [0, 6], keep: 14 days, repository: hot}}
weekly: {at: '00:00', snapshots: {days: [weekend], keep: 0}, backups: {days: [saturday], keep: 3 months, repository: hot}}
monthly: {at: '00:00', on: day 30, archives: {months: [january, july], keep: 12 months, repository: vault}}
yearly: {at: '00:00', on: last friday, month: may, backups: {keep: 7 years, repository: locked}}
healthCheck: {days: [every], months: [may]}
retries: 1
notify: {recipients: [a@example.com, b@example.com], onSuccess: false}`,
			`It is number 1 among the schedules.
It protects every machine in westeurope and northeurope.
Machines in westeurope and northeurope with the tag holdfast-policy=shop are protected as well.
It never protects: machines with the tag a=b.
Daily, every day at every 15 minutes of the hours 0, 1, 2, 3, 4, 5 and 6: a snapshot; the newest 300 are kept.
Daily, every day at 00:00 and 06:00: a backup to "hot", kept for 14 days.
Weekly, saturday and sunday at 00:00: a snapshot; none is kept for this schedule's sake.
Weekly, saturday at 00:00: a backup to "hot", kept for 3 months.
Monthly, day 30 (in a shorter month the last one) of january and july at 00:00: an archive of the newest backup to "vault", kept for 12 months.
Yearly, the last friday of may at 00:00: a backup to "locked", kept for 7 years.
Its times are those of UTC.
Machines that failed are tried again once, 10 minutes later.
Backups are checked every day of may, after the last session of the day.
a@example.com, b@example.com and the installation's recipients are told of sessions that ended with a warning or failed.`,
		},
		{
			`kind: SchedulePolicy
name: by hand
enabled: false
serviceAccount: sp
sources: {regions: [westeurope], conditions: [{name: c, subscription: 11111111-1111-1111-1111-111111111111, tags: [{name: a}, {name: b, value: c}]}]}
guest: {applicationConsistent: true, linux: {before: {path: /a.sh}}, ignoreMissingScripts: true, ignoreExitCodes: true}
snapshotOptions: {tags: [{name: x, value: y}], resourceGroups: {11111111-1111-1111-1111-111111111111: snaps}}
retries: 0
notify: {onSuccess: false, onWarning: false, onFailure: false}`,
			`It is disabled, and does nothing by itself; it would be number 1 among the schedules.
It protects in westeurope: machines of the subscription 11111111-1111-1111-1111-111111111111 with all of a= and b=c (c).
It acts by the permissions of "sp".
Around a snapshot of a running machine applications are asked to flush, /a.sh runs before it in Linux, a missing script is ignored and what scripts return is ignored.
Snapshots get the tags x=y and go to the resource group snaps in 11111111-1111-1111-1111-111111111111.
It has no schedule, and runs when somebody starts it.
Machines that failed are not tried again before the next run.
Nobody is told of its sessions, whatever comes of them.`,
		},
		{
			`kind: SLATemplate
name: gold
target: 99.98
grace: 90 minutes
changedRanges: false
snapshots: {window: 22:00-06:00, daily: {every: 1 hour, keep: 2 days}, weekly: {days: [friday], keep: 1 month}}
backups: {window: 09:00-09:00, daily: {every: 8 hours, keep: 30 days}, monthly: {on: last day, months: [every], keep: 1 year}}
archives: {on: day 1, months: [june], keep: 7 years}
healthCheck: {on: first sunday}
---
kind: StorageTemplate
name: west
backups: {default: hot, regions: {westeurope: locked, northeurope: locked}}
archives: {default: vault}
---
kind: SLAPolicy
name: shop
slaTemplate: gold
storageTemplate: west
sources: {regions: [westeurope, eastus], include: [{vm: /subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/web-1}]}
notify: {onlyMissed: true, at: '08:00'}`,
			`It is number 1 among the SLA policies, which go before all schedules.
It protects in westeurope and eastus: the machine web-1 of the resource group g.
It asks for what the SLA template "gold" says, and is met when 99.98 % of it exist.
Backups of machines in eastus go to "hot".
Backups of machines in westeurope go to "locked".
Archives of machines in westeurope and eastus go to "vault".
The installation's recipients are told of missed targets and removed machines alone, at 08:00 on the day after the window closed in all regions.
A snapshot every hour from 22:00 to 06:00 of the next day on the clock of each region, kept for 2 days.
A weekly snapshot, the first one of the window on friday, kept for 1 month.
A backup every 8 hours around the clock, from 09:00 on, kept for 30 days.
A monthly backup, the first one of the window on the last day of every month, kept for 1 year.
An archive on day 1 of june, made of that day's backup or the newest one, kept for 7 years.
The target is met when 99.98 % of what is asked for exist, each in time: before its next slot, or 90 minutes after its window closed, but at least 15 minutes after its own.
Backups read whole disks each time.
Backups are checked on the first sunday of every month, after the last session of the day.
Backups go from northeurope and westeurope to "locked" and from everywhere else to "hot".
Archives go to "vault".`,
		},
		{
			`kind: Installation
zone: Europe/Brussels
retentionAt: '03:00'
globalRetention: {age: 1 year, allSnapshots: true, unprotectedBackups: true}
mail: {server: m.example.com, from: a@example.com, dailyReportAt: '09:00'}
webhooks:
  - {url: 'https://hooks.example.com/a', secretFrom: {environment: HOOK}}
  - {url: 'https://hooks.example.com/b', secretFrom: {environment: HOOK}, events: [slotsMissed]}`,
			`It is /srv/hot, opened by the password in the file /etc/hot.
It is azblob://account/vault in westeurope, tier archive, written by at most 3 machines' backups at once, opened by the password in the variable VAULT.
It is azblob://account/locked in westeurope, locked as long as what needs it is kept, opened by the vault key https://v.vault.azure.net/keys/k.
Retention runs every day at 03:00 in Europe/Brussels, where schedules that name no zone are at home.
Snapshots of machines that no policy protects go after 1 year.
Snapshots that policies made go after 1 year whatever their policies say; the last good one of a protected machine stays.
Backups of machines that no policy protects go after 1 year.
Records of sessions are kept for ever.
Mail goes through m.example.com from a@example.com; a report of the last 24 hours goes out at 09:00.
https://hooks.example.com/a is told of sessions that ended, closed days, weeks and months of SLA policies and missed slots.
https://hooks.example.com/b is told of missed slots.`,
		},
	} {
		d, _, err := document.Read(document.File{Name: "set.yaml", Data: []byte(c.text + repositories)})
		if err != nil {
			t.Fatalf("%v\n%s", err, c.text)
		}
		var told []string
		for _, e := range explain.Documents(d) {
			told = append(told, e.Sentences...)
		}
		rest := told
		for want := range strings.Lines(c.want) {
			want = strings.TrimSuffix(want, "\n")
			for len(rest) > 0 && rest[0] != want {
				rest = rest[1:]
			}
			if len(rest) == 0 {
				t.Errorf("not told in its place: %s\nin\n%s", want, strings.Join(told, "\n"))
				break
			}
		}
	}
}

// TestDocuments_EveryRow of the examples has a sentence of its own.
func TestDocuments_EveryRow(t *testing.T) {
	files, err := document.Load("../../../examples/policies")
	if err != nil {
		t.Fatal(err)
	}
	d, _, err := document.Read(files...)
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]int{}
	for _, e := range explain.Documents(d) {
		for _, sentence := range e.Sentences {
			if strings.Contains(sentence, "kept") && (strings.Contains(sentence, "snapshot") || strings.Contains(sentence, "backup") || strings.Contains(sentence, "archive")) &&
				!strings.HasPrefix(sentence, "Backups") && !strings.HasPrefix(sentence, "It is") {
				told[e.Kind+" "+e.Name]++
			}
		}
	}
	for _, p := range d.SchedulePolicies {
		if told["SchedulePolicy "+p.Name] != len(p.Rows) {
			t.Errorf("%s has %d rows, of which %d are told", p.Name, len(p.Rows), told["SchedulePolicy "+p.Name])
		}
	}
	for _, s := range d.SLATemplates {
		if told["SLATemplate "+s.Name] != len(s.Rows) {
			t.Errorf("%s has %d rows, of which %d are told", s.Name, len(s.Rows), told["SLATemplate "+s.Name])
		}
	}
}
