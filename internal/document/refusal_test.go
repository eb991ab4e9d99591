package document_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/document"
)

// base is what the cases of refusals rest on; it has no mistake of its own. Lines of cases are counted after it.
const base = `kind: Repository
name: hot
url: azblob://account/backups/hot
region: westeurope
passwordFrom: {environment: HOT}
---
kind: Repository
name: plain
url: azblob://account/backups/plain
region: westeurope
encrypted: false
---
kind: Repository
name: vault
url: azblob://account/backups/vault
region: westeurope
tier: archive
passwordFrom: {environment: VAULT}
---
kind: SLATemplate
name: gold
snapshots: {daily: {every: 1 hour, keep: 2 days}}
backups: {daily: {every: 8 hours, keep: 30 days}}
archives: {on: last day, months: [every], keep: 7 years}
---
kind: StorageTemplate
name: west
backups: {regions: {westeurope: hot}}
archives: {default: vault}
---
`

// schedule begins a schedule-based policy whose sources are right; three lines.
const schedule = "kind: SchedulePolicy\nname: shop\nsources: {regions: [westeurope], all: true}\n"

// TestRead_Refuses holds what is wrong against the exact words: place, field, message, and what is accepted. The line is counted
// from the case's own first one.
func TestRead_Refuses(t *testing.T) {
	baseLines := strings.Count(base, "\n")
	for _, c := range []struct{ text, want, accepted string }{
		// Kinds and names
		{"name: x", "1:1: kind: missing", "SchedulePolicy, SLAPolicy"},
		{"kind: Policy\nname: x", `1:7: kind: "Policy" is not a kind of document`, "SchedulePolicy, SLAPolicy"},
		{"kind: Repository\nurl: /srv\nencrypted: false", "1:1: name: missing", "1 to 255 characters"},
		{"kind: Repository\nname: a/b\nurl: /srv\nencrypted: false", `2:1: name: "a/b" holds a character that names may not have: /`, "1 to 255 characters"},
		{"kind: Repository\nname: " + strings.Repeat("x", 256) + "\nurl: /srv\nencrypted: false", "2:1: name: has 256 characters", "1 to 255 characters"},
		{"kind: Repository\nname: ' x'\nurl: /srv\nencrypted: false", `2:1: name: " x" begins or ends with a space, or holds a character that cannot be seen`, "1 to 255 characters"},
		{"kind: Repository\nname: \"a\\u202Eb\"\nurl: /srv\nencrypted: false", `2:1: name: "a\u202eb" begins or ends with a space, or holds a character that cannot be seen`, "1 to 255 characters"},
		{"kind: Repository\nname: hot\nurl: /srv\nencrypted: false", `2:1: name: "hot" is taken by the Repository at set.yaml:1`, "another name"},
		{schedule + "---\nkind: SLAPolicy\nname: shop\nslaTemplate: gold\nstorageTemplate: west\nsources: {regions: [westeurope], all: true}", `6:1: name: "shop" is taken by the SchedulePolicy at set.yaml:31`, "another name"},
		{"kind: Installation\n---\nkind: Installation", "3:7: kind: the settings of the installation stand at set.yaml:31 already", "one document"},
		{schedule + "sheduled: true", "4:1: sheduled: unknown field", "accepted here: daily, description, enabled"},

		// Secrets
		{"kind: Repository\nname: x\nurl: /srv\nencrypted: false\npassword: hunter2", "5:1: password: a secret never stands in a document", "passwordFrom"},
		{"kind: Installation\nmail: {server: m, from: a@example.com, user: u, passwordFrom: {password: x}}", "2:64: mail.passwordFrom.password: a secret never stands in a document", "passwordFrom"},

		// Zones and regions
		{schedule + "zone: Mars/Olympus", `4:1: zone: "Mars/Olympus" is not a time zone`, "IANA"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [West Europe], all: true}", `3:21: sources.regions[0]: "West Europe" is not a region that is known`, "perhaps westeurope"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [mars], all: true}", `3:21: sources.regions[0]: "mars" is not a region that is known`, "such as westeurope"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope, westeurope], all: true}", `3:33: sources.regions[1]: "westeurope" is named twice`, "once"},

		// Sources
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [], all: true}", "3:11: sources.regions: the policy protects nothing: no region is named", "one region"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope]}", "3:1: sources: the policy protects nothing: it includes nothing", "all: true"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], include: [{tag: {name: A, value: b}}], exclude: [{tag: {name: a, value: b}}]}", "3:73: sources.exclude: the policy protects nothing: everything that it includes is excluded", "exclude less"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], include: [{}]}", "3:44: sources.include[0]: 0 of them are given", "exactly one of subscription"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], include: [{vm: web-1}]}", `3:45: sources.include[0].vm: "web-1" is not the id of a virtual machine`, "/subscriptions/ID"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], include: [{subscription: production}]}", `3:45: sources.include[0].subscription: "production" is not the id of a subscription`, "GUID"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], include: [{resourceGroup: shop}]}", `3:45: sources.include[0].resourceGroup: "shop" is not the id of a resource group`, "/subscriptions/ID"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], all: true, exclude: [{resourceGroup: x}]}", "3:56: sources.exclude[0].resourceGroup: unknown field", "tag, vm"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], conditions: [{name: c, tags: [{name: a}]}]}", "3:57: sources.conditions[0].tags: too few parts: a condition is met by what matches all of them", "two tags"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], conditions: [{name: c, tags: [{name: a}, {name: b}]}, {name: c, tags: [{name: a}, {name: b}]}]}", `3:89: sources.conditions[1].name: a condition before is called "c" already`, "another name"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], conditions: [{name: " + strings.Repeat("c", 65) + ", tags: [{name: a}, {name: b}]}]}", "3:48: sources.conditions[0].name: has 65 characters", "1 to 64"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], conditions: [{name: c, subscription: 11111111-1111-1111-1111-111111111111, resourceGroup: /subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/x, tags: [{name: a}]}]}", "3:47: sources.conditions[0]: names a subscription and a resource group", "two tags"},
		{"kind: SchedulePolicy\nname: x\nsources: {regions: [westeurope], include: [{tag: {name: 'a<b'}}]}", `3:51: sources.include[0].tag.name: "a<b" is not the name of a tag`, "1 to 512"},

		// Guests, snapshots, retries, mail
		{schedule + "guest: {windows: {before: {path: 'C:\\x.sh'}}}", `4:28: guest.windows.before.path: "C:\\x.sh" is not the path of a script in Windows`, ".ps1"},
		{schedule + "guest: {linux: {after: {path: x.sh}}}", `4:25: guest.linux.after.path: "x.sh" is not the path of a script in Linux`, "ends in .sh"},
		{schedule + "snapshotOptions: {tags: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}, {name: f}]}", "4:19: snapshotOptions.tags: 6 tags are given", "at most 5"},
		{schedule + "snapshotOptions: {tags: [{name: a}, {name: A}]}", `4:38: snapshotOptions.tags[1].name: "A" is given twice`, "once"},
		{schedule + "snapshotOptions: {tags: [{name: holdfast-session}]}", `4:27: snapshotOptions.tags[0].name: "holdfast-session" could be taken for a tag by which Holdfast knows its own snapshots`, "holdfast-"},
		{schedule + "snapshotOptions: {resourceGroups: {production: x}}", `4:36: snapshotOptions.resourceGroups.production: "production" is not the id of a subscription`, "GUID"},
		{schedule + "retries: -1", "4:1: retries: -1 is out of range", "from 0"},
		{schedule + "priority: 0", "4:1: priority: 0 is not a priority", "from 1"},
		{schedule + "notify: {recipients: [nobody]}", `4:23: notify.recipients[0]: "nobody" is not an e-mail address`, "one address"},
		{schedule + "notify: {recipients: ['Me <me@example.com>']}", `4:23: notify.recipients[0]: "Me <me@example.com>" is not an e-mail address`, "one address"},

		// Schedules
		{schedule + "daily: {snapshots: {hours: [24], keep: 1}}", "4:29: daily.snapshots.hours[0]: 24 is not an hour of the day", "0 to 23"},
		{schedule + "daily: {snapshots: {hours: [7, 7], keep: 1}}", "4:32: daily.snapshots.hours[1]: 7 is named twice", "once"},
		{schedule + "daily: {snapshots: {hours: [7], perHour: 5, keep: 1}}", "4:33: daily.snapshots.perHour: 5 is not a number of snapshots an hour", "1, 2, 3, 4, 6 or 12"},
		{schedule + "daily: {snapshots: {keep: 1}}", "4:9: daily.snapshots.hours: names no hours", "a list"},
		{schedule + "daily: {days: [someday], snapshots: {hours: [7], keep: 1}}", `4:16: daily.days[0]: "someday" is not a day of the week`, "weekdays"},
		{schedule + "daily: {days: [weekdays, friday], snapshots: {hours: [7], keep: 1}}", `4:26: daily.days[1]: "friday" names a day that is named before`, "once"},
		{schedule + "daily: {days: [every]}", "4:1: daily: the schedule makes nothing", "snapshots, backups"},
		{schedule + "daily: {snapshots: {hours: [7], keep: -1}}", "4:33: daily.snapshots.keep: -1 snapshots cannot be kept", "0 to 500"},
		{schedule + "daily: {backups: {hours: [7], keep: 7, repository: hot}}", `4:37: daily.backups.keep: "7" is not a period`, "14 days"},
		{schedule + "daily: {backups: {hours: [7], keep: 1 year, repository: hot}}", `4:31: daily.backups.keep: "1 year" is not a retention here`, "days or months"},
		{schedule + "daily: {backups: {hours: [7], keep: 1 day}}", "4:18: daily.backups.repository: missing", "the name of a repository"},
		{schedule + "daily: {snapshots: {hours: [7], perHour: 12, keep: 500}}", "4:46: daily.snapshots.keep: up to 501 snapshots of a disk would exist at once (500 daily, 1 before the oldest one goes); Azure takes 500 at the most", "fewer"},
		{schedule + "daily: {snapshots: {hours: [7], keep: 300}, backups: {hours: [7], keep: 1 day, repository: hot}}\nweekly: {at: '07:00', snapshots: {days: [monday], keep: 199}}", "4:33: daily.snapshots.keep: up to 501 snapshots of a disk would exist at once (300 daily, 199 weekly, 1 before the oldest one goes, 1 that backups count changes from); Azure takes 500 at the most", "fewer"},
		{schedule + "weekly: {at: 7, snapshots: {days: [monday], keep: 1}}", `4:14: weekly.at: "7" is not a time of day`, "HH:MM"},
		{schedule + "monthly: {at: '07:00', on: fifth monday, snapshots: {months: [every], keep: 1}}", `4:28: monthly.on: "fifth monday" is not a day of a month`, "first monday"},
		{schedule + "monthly: {at: '07:00', on: '', snapshots: {months: [every], keep: 1}}", "4:24: monthly.on: names no day", "first monday"},
		{schedule + "monthly: {at: '07:00', on: day 1, snapshots: {months: [may, may], keep: 1}}", `4:61: monthly.snapshots.months[1]: "may" names a month that is named before`, "once"},
		{schedule + "yearly: {at: '07:00', on: day 1, month: Smarch, backups: {keep: 1 year, repository: hot}}", `4:34: yearly.month: "Smarch" is not a month`, "january"},
		{schedule + "yearly: {at: '07:00', on: day 1, month: may, backups: {keep: 12 months, repository: hot}}", `4:56: yearly.backups.keep: "12 months" is not a retention here`, "years"},
		{schedule + "yearly: {at: '07:00', on: day 1, month: may, snapshots: {keep: 1}}", "4:46: yearly.snapshots: unknown field", "accepted here: archives, at, backups, month, on"},
		{schedule + "daily: {backups: {hours: [7], keep: 1 day, repository: hot}}\nmonthly: {at: '07:00', on: day 1, backups: {months: [may], keep: 1 day, repository: hot}, archives: {months: [may], keep: 1 day, repository: vault}}", "5:91: monthly.archives: a schedule that archives cannot keep backups as well", "at one frequency"},
		{schedule + "healthCheck: {days: [friday]}", "4:1: healthCheck: there are no backups to check", "backups"},
		{schedule + "daily: {backups: {hours: [7], keep: 1 day, repository: hot}}\nhealthCheck: {days: [friday], on: day 1}", "5:31: healthCheck.on: given together with days", "days, or on"},
		{schedule + "daily: {backups: {hours: [7], keep: 1 day, repository: hot}}\nhealthCheck: {months: [may]}", "5:1: healthCheck: names no day", "days, or on"},
		{schedule + "daily: {snapshots: {hours: [7], keep: 1}}\ndaily: {snapshots: {hours: [7], keep: 1}}", "5:1: daily: set twice", ""},

		// Priorities
		{schedule + "priority: 1\n---\n" + strings.Replace(schedule, "shop", "web", 1) + "priority: 1", `9:1: priority: 1 is the priority of "shop" already`, "of its own"},
		{schedule + "priority: 1\n---\n" + strings.Replace(schedule, "shop", "web", 1), `6:1: priority: missing, while "shop" has one`, "or none"},
		{schedule + "---\n" + strings.Replace(schedule, "shop", "web", 1) + "priority: 1", `8:1: priority: given, while "shop" has none`, "or none"},

		// References, tiers, feeding
		{schedule + "daily: {backups: {hours: [7], keep: 1 day, repository: cold}}", `4:44: daily.backups.repository: there is no Repository "cold"`, "one of hot, plain and vault"},
		{schedule + "daily: {backups: {hours: [7], keep: 1 day, repository: vault}}", `4:44: daily.backups.repository: "vault" is of tier archive, which takes archives alone`, "tier hot"},
		{schedule + "daily: {backups: {hours: [7], keep: 1 day, repository: hot}}\nmonthly: {at: '07:00', on: day 1, archives: {months: [may], keep: 12 months, repository: hot}}", `5:78: monthly.archives.repository: "hot" is of tier inferred, which takes no archives`, "tier archive"},
		{schedule + "monthly: {at: '07:00', on: day 1, archives: {months: [may], keep: 12 months, repository: vault}}", "4:35: monthly.archives: nothing feeds the archives: no more frequent schedule makes backups", "more frequent"},
		{schedule + "daily: {backups: {hours: [7], keep: 1 day, repository: plain}}\nmonthly: {at: '07:00', on: day 1, archives: {months: [may], keep: 12 months, repository: vault}}", `5:78: monthly.archives.repository: "vault" is encrypted, and no more frequent schedule has its backups in a repository that is, too`, "both encrypted"},

		// Templates
		{"kind: SLATemplate\nname: x", "1:1: the template asks for nothing", "snapshots or backups"},
		{"kind: SLATemplate\nname: x\nsnapshots: {window: 1-2}", `3:21: snapshots.window: "1-2" is not a window`, "22:00-06:00"},
		{"kind: SLATemplate\nname: x\nsnapshots: {window: {from: '01:00'}, daily: {every: 1 hour, keep: 1 day}}", "3:21: snapshots.window.to: missing", "when it closes"},
		{"kind: SLATemplate\nname: x\nsnapshots: {window: 01:00-02:00}", "3:1: snapshots: asks for nothing", "daily, weekly"},
		{"kind: SLATemplate\nname: x\nsnapshots: {daily: {every: 7 minutes, keep: 1 day}}", `3:21: snapshots.daily.every: snapshots cannot be made every "7 minutes"`, "5, 10, 15, 20 or 30 minutes"},
		{"kind: SLATemplate\nname: x\nbackups: {daily: {every: 30 minutes, keep: 1 day}}", `3:19: backups.daily.every: backups cannot be made every "30 minutes"`, "1, 2, 3, 4, 6, 8, 12 or 24 hours"},
		{"kind: SLATemplate\nname: x\nbackups: {monthly: {on: day 1, months: [may], keep: 1 day}}", `3:47: backups.monthly.keep: "1 day" is not a retention here`, "months or years"},
		{"kind: SLATemplate\nname: x\nbackups: {daily: {every: 1 hour, keep: 1 day}}\narchives: {on: first monday, months: [may], keep: 1 year}", `4:12: archives.on: archives are made on the first or the last day of a month, not on "first monday"`, "day 1 or last day"},
		{"kind: SLATemplate\nname: x\nsnapshots: {daily: {every: 1 hour, keep: 1 day}}\narchives: {on: day 1, months: [may], keep: 1 year}", "4:1: archives: nothing feeds the archives: the template makes no backups", "backups"},
		{"kind: SLATemplate\nname: x\nsnapshots: {daily: {every: 1 hour, keep: 1 day}}\nhealthCheck: {on: day 1}", "4:1: healthCheck: there are no backups to check", "backups"},
		{"kind: SLATemplate\nname: x\nbackups: {daily: {every: 1 hour, keep: 1 day}}\nhealthCheck: {days: [friday], on: day 1}", "4:15: healthCheck.days: unknown field", "months, on"},
		{"kind: SLATemplate\nname: x\ntarget: 100.5\nbackups: {daily: {every: 1 hour, keep: 1 day}}", "3:1: target: 100.5 is out of range", "0 to 100"},
		{"kind: SLATemplate\nname: x\ngrace: 2 days\nbackups: {daily: {every: 1 hour, keep: 1 day}}", `3:1: grace: "2 days" is not a grace`, "24 hours"},
		{"kind: SLATemplate\nname: x\nproof: {level: 6, within: 1 month}\nbackups: {daily: {every: 1 hour, keep: 1 day}}", "3:9: proof.level: 6 is not a level of proof that can be asked for", "1 to 5"},
		{"kind: SLATemplate\nname: x\nsnapshots: {daily: {every: 5 minutes, keep: 1 day}}", "3:39: snapshots.daily.keep: up to 577 snapshots of a disk would exist at once (576 daily, 1 before the oldest one goes); Azure takes 500 at the most", "fewer"},
		{"kind: StorageTemplate\nname: x", "1:1: backups: missing", "a place"},
		{"kind: StorageTemplate\nname: x\nbackups: {}", "3:1: backups: names no repository", "default"},
		{"kind: StorageTemplate\nname: x\nbackups: {default: vault}", `3:11: backups.default: "vault" is of tier archive, which takes archives alone`, "tier hot"},
		{"kind: StorageTemplate\nname: x\nbackups: {default: hot, regions: {northeurope: none}}", `3:35: backups.regions.northeurope: there is no Repository "none"`, "one of"},
		{"kind: StorageTemplate\nname: x\nbackups: {default: hot, regions: {northeurope: plain}}\narchives: {default: vault}", `3:35: backups.regions.northeurope: archives in "vault", which is encrypted, would be made from backups in "plain", which is not encrypted`, "both encrypted"},
		{"kind: SLAPolicy\nname: x\nslaTemplate: silver\nsources: {regions: [westeurope], all: true}", `3:1: slaTemplate: there is no SLATemplate "silver"`, "one of gold"},
		{"kind: SLAPolicy\nname: x\nslaTemplate: gold\nstorageTemplate: east\nsources: {regions: [westeurope], all: true}", `4:1: storageTemplate: there is no StorageTemplate "east"`, "one of west"},
		{"kind: SLAPolicy\nname: x\nslaTemplate: gold\nsources: {regions: [westeurope], all: true}", `1:1: storageTemplate: missing: the SLA template "gold" makes backups`, "a storage template"},
		{"kind: SLAPolicy\nname: x\nslaTemplate: gold\nstorageTemplate: west\nsources: {regions: [westeurope, northeurope], all: true}", `4:1: storageTemplate: the SLA template "gold" makes backups, and the storage template "west" has no place for those of northeurope`, "a place"},

		// Repositories
		{"kind: Repository\nname: x\nurl: s3://bucket\nencrypted: false", `3:1: url: "s3://bucket" has a scheme that is not known`, "azblob"},
		{"kind: Repository\nname: x\nurl: azblob://account\nregion: westeurope\nencrypted: false", `3:1: url: "azblob://account" does not name an account and a container`, "azblob"},
		{"kind: Repository\nname: x\nurl: azblob://a/b\nencrypted: false", "1:1: region: missing", "such as westeurope"},
		{"kind: Repository\nname: x\nurl: /srv\nregion: westeurope\nencrypted: false", "4:1: region: a folder is in no region of Azure", "azblob alone"},
		{"kind: Repository\nname: x\nurl: /srv\ntier: hot\nencrypted: false", "4:1: tier: a folder has no access tiers", "archive"},
		{"kind: Repository\nname: x\nurl: azblob://a/b\nregion: westeurope\ntier: warm\nencrypted: false", `5:1: tier: "warm" is not an access tier`, "hot, cool, cold"},
		{"kind: Repository\nname: x\nurl: /srv\nredundancy: LRS\nencrypted: false", "4:1: redundancy: a folder is in no storage account", "azblob"},
		{"kind: Repository\nname: x\nurl: azblob://a/b\nregion: westeurope\nredundancy: RA-GRS\nencrypted: false", `5:1: redundancy: "RA-GRS" is not a redundancy of storage accounts`, "count as GRS"},
		{"kind: Repository\nname: x\nurl: azblob://a/b\nregion: westeurope\ntier: archive\nredundancy: ZRS\nencrypted: false", "6:1: redundancy: accounts of redundancy ZRS have no tier archive", "LRS or GRS"},
		{"kind: Repository\nname: x\nurl: /srv\nimmutable: true\nencrypted: false", "4:1: immutable: a folder cannot lock what it holds", "version-level"},
		{"kind: Repository\nname: x\nurl: azblob://a/b\nregion: westeurope\ntier: archive\nimmutable: true\nencrypted: false", "6:1: immutable: what lies in tier archive cannot have its locks moved, which repositories need", "another tier"},
		{"kind: Repository\nname: x\nurl: /srv\nvaultKey: https://v.vault.azure.net/keys/k\npasswordFrom: {file: f}", "5:1: passwordFrom: given together with vaultKey", "vaultKey"},
		{"kind: Repository\nname: x\nurl: /srv\nencrypted: false\npasswordFrom: {file: f}", "4:1: encrypted: the repository is not encrypted, but something is to open it", "true, or"},
		{"kind: Repository\nname: x\nurl: /srv\nvaultKey: https://v.vault.azure.net/secrets/k", `4:1: vaultKey: "https://v.vault.azure.net/secrets/k" is not the address of one of a vault's keys`, "https://VAULT/keys/NAME"},
		{"kind: Repository\nname: x\nurl: /srv\npasswordFrom: {file: f, environment: E}", "4:1: passwordFrom: 2 of them are given", "exactly one"},
		{"kind: Repository\nname: locked\nurl: azblob://a/b\nregion: westeurope\nimmutable: true\nencrypted: false\n---\n" + schedule + "daily: {backups: {hours: [7], keep: 1200 months, repository: locked}}", `11:31: daily.backups.keep: what is kept for 1200 months in "locked" cannot be locked for so long`, "36490 days"},
		{"kind: Repository\nname: x\nurl: /srv\nencrypted: false\nconcurrency: 5000", "5:1: concurrency: 5000 is out of range", "1 to 1000"},

		// Settings
		{"kind: Installation\nglobalRetention: {age: 14 days}", `2:19: globalRetention.age: "14 days" is out of range`, "15 to 36135 days"},
		{"kind: Installation\nglobalRetention: {age: 15 hours}", `2:19: globalRetention.age: "15 hours" is out of range`, "15 to 36135 days"},
		{"kind: Installation\nsessionRecords: {keep: 5 hours}", `2:18: sessionRecords.keep: "5 hours" is not a retention here`, "days or months or years"},
		{"kind: Installation\nretentionAt: noon", `2:14: retentionAt: "noon" is not a time of day`, "HH:MM"},
		{"kind: Installation\nmail: {server: m, from: a@example.com, user: u}", "2:40: mail.user: user and passwordFrom belong together", "or neither"},
		{"kind: Installation\nmail: {server: 'm:25', from: a@example.com, port: 0, tls: maybe, timeoutSeconds: 0, subject: ''}", `2:8: mail.server: "m:25" is not the name of a host`, "a host name"},
		{"kind: Installation\nmail: {server: m, from: a@example.com, subject: '%JobName% is %Status%'}", "2:40: mail.subject: %Status% stands for nothing in this subject", "%JobResult%, %JobName%, %ObjectCount% and %Issues%"},
		{"kind: Installation\nmail: {server: m, from: a@example.com, slaSubject: '%JobResult%'}", "2:40: mail.slaSubject: %JobResult% stands for nothing in this subject", "%SLAStatus%"},
		{"kind: Installation\nmail: {server: m, from: a@example.com, subject: ''}", `2:40: mail.subject: "" cannot be a subject`, "1 to 255"},
		{"kind: Installation\nwebhooks: [{url: 'http://hooks.example.com/', secretFrom: {file: s}}]", `2:13: webhooks[0].url: "http://hooks.example.com/" is in the clear`, "https://"},
		{"kind: Installation\nwebhooks: [{url: 'https://h/', secretFrom: {file: s}}, {url: 'https://h/', secretFrom: {file: s}}]", `2:57: webhooks[1].url: "https://h/" is given twice`, "each address once"},
		{"kind: Installation\nwebhooks: [{url: 'https://h/', secretFrom: {file: s, environment: S}}]", "2:32: webhooks[0].secretFrom: 2 of them are given", "exactly one"},
		{"kind: Installation\nwebhooks: [{url: 'https://h/'}]", "2:12: webhooks[0].secretFrom: missing", "where the secret is found"},
		{"kind: Installation\nwebhooks: [{url: 'https://h/', secret: abc, secretFrom: {file: s}}]", "2:32: webhooks[0].secret: a secret never stands in a document", "secretFrom of a webhook"},
		{"kind: Installation\nwebhooks: [{url: 'https://h/', secretFrom: {file: s}, events: [sessionBegan]}]", `2:64: webhooks[0].events[0]: "sessionBegan" is not an event`, "sessionEnded, slaReported and slotsMissed"},
		{"kind: Installation\nwebhooks: [{url: 'https://h/', secretFrom: {file: s}, events: [slotsMissed, slotsMissed]}]", `2:77: webhooks[0].events[1]: "slotsMissed" is given twice`, "each event once"},

		// Bytes that are no YAML
		{"kind: [", "", ""},
	} {
		_, _, err := read(base + c.text)
		var mistakes document.Mistakes
		if !errors.As(err, &mistakes) {
			t.Errorf("%v for\n%s", err, c.text)
			continue
		}
		got := mistakes[0].String()
		at := fmt.Sprintf("set.yaml:%d:", mistakes[0].Line)
		relative := fmt.Sprintf("%d:%s", mistakes[0].Line-baseLines, strings.TrimPrefix(got, at))
		if c.want != "" && relative != c.want || !strings.Contains(mistakes[0].Hint, c.accepted) || mistakes[0].Line == 0 {
			t.Errorf("got  %s\n      → %s\nwant %s, accepted: %s\n%s", relative, mistakes[0].Hint, c.want, c.accepted, c.text)
		}
	}
}

// TestRead_Base has no mistake, so that a refusal is that of its case.
func TestRead_Base(t *testing.T) {
	if _, _, err := read(base); err != nil {
		t.Fatal(err)
	}
}

// TestRead_StopsTelling after a hundred mistakes of a set.
func TestRead_StopsTelling(t *testing.T) {
	_, _, err := read(strings.Repeat("kind: Repository\nname: a.b\nurl: x\n---\n", 200))
	var mistakes document.Mistakes
	if !errors.As(err, &mistakes) || len(mistakes) != 100 || len(mistakes.Unwrap()) != 100 {
		t.Errorf("%d mistakes", len(mistakes))
	}
}

// TestRead_DoesNotRepeat a mistake: neither for each document that names the one that is wrong, nor as what follows from it in the
// same document.
func TestRead_DoesNotRepeat(t *testing.T) {
	for text, want := range map[string]string{
		strings.Replace(base, "every: 1 hour", "every: 7 hours", 1) +
			"kind: SLAPolicy\nname: x\nslaTemplate: gold\nstorageTemplate: west\nsources: {regions: [westeurope], all: true}": "snapshots.daily.every",
		"kind: SLATemplate\nname: x\nsnapshots: 3":                                               "snapshots",
		"kind: SLATemplate\nname: x\nbackups: {daily: {every: often, keep: 1 day}}\ntarget: 101": "backups.daily.every target",
		"kind: SchedulePolicy\nname: x\nsources: {region: westeurope}":                           "sources.region sources.regions",
	} {
		_, _, err := read(text)
		var mistakes document.Mistakes
		if !errors.As(err, &mistakes) {
			t.Fatalf("%v for\n%s", err, text)
		}
		var fields []string
		for _, m := range mistakes {
			fields = append(fields, m.Field)
		}
		slices.Sort(fields)
		if got := strings.Join(fields, " "); got != want {
			t.Errorf("mistakes in %s, want %s\n%v", got, want, err)
		}
	}
}

// TestRead_Notes tells what the reader decided and what may surprise, and neither of what is as one would expect.
func TestRead_Notes(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{schedule, "note : the policy has no schedule: it runs when somebody starts it"},
		{schedule + "daily: {snapshots: {hours: [9], keep: 1}, backups: {hours: [7, 9, 11], keep: 7 days, repository: hot}}", "note daily.snapshots: 07:00 and 11:00 were added to the snapshots: a backup is made from a snapshot"},
		{schedule + "daily: {backups: {hours: [7], keep: 7 days, repository: hot}}", ""},
		{schedule + "weekly: {at: '07:00', snapshots: {days: [monday], keep: 1}, backups: {days: [monday, weekend], keep: 7 days, repository: hot}}", "note weekly.snapshots: weekend was added to the snapshots: a backup is made from a snapshot"},
		{schedule + "monthly: {at: '07:00', on: day 1, snapshots: {months: [may], keep: 1}, backups: {months: [every], keep: 30 days, repository: hot}}", "note monthly.snapshots: january, february, march, april, june, july, august, september, october, november and december were added to the snapshots: a backup is made from a snapshot"},
		{schedule + "daily: {days: [weekdays], snapshots: {hours: [7], keep: 1}}\nweekly: {at: '07:00', snapshots: {days: [friday], keep: 1}}\nmonthly: {at: '07:00', on: first friday, snapshots: {months: [every], keep: 1}}", ""},
		{schedule + "daily: {snapshots: {hours: [7], keep: 1}}\nweekly: {at: '08:00', snapshots: {days: [friday], keep: 1}}", "note weekly.snapshots: not every one of these slots is a slot of the daily snapshots as well: what is made then is a point of its own, which bears this flag alone"},
		{schedule + "daily: {days: [weekdays], snapshots: {hours: [7], keep: 1}}\nmonthly: {at: '07:00', on: day 1, snapshots: {months: [every], keep: 1}}", "note monthly.snapshots: not every one of these slots is a slot of the daily snapshots as well: what is made then is a point of its own, which bears this flag alone"},
		{schedule + "daily: {days: [weekdays], backups: {hours: [7], keep: 7 days, repository: hot}}\nmonthly: {at: '09:00', on: last monday, archives: {months: [every], keep: 12 months, repository: vault}}", ""},
		{schedule + "daily: {days: [weekdays], backups: {hours: [7], keep: 7 days, repository: hot}}\nmonthly: {at: '07:00', on: last day, archives: {months: [every], keep: 12 months, repository: vault}}", "note monthly.archives: not every one of these days has a backup of its own: on the others the newest backup is archived, whatever its age"},
		{schedule + "daily: {backups: {hours: [7], keep: 7 days, repository: hot}}\nmonthly: {at: '07:00', on: last day, archives: {months: [every], keep: 179 days, repository: vault}}", "warning monthly.archives.keep: 179 days in tier archive (vault): what goes before 180 days is billed as if it had stayed"},
		{"kind: Repository\nname: cold\nurl: azblob://a/b\nregion: westeurope\ntier: cold\nencrypted: false\n---\n" + schedule + "daily: {backups: {hours: [7], keep: 2 months, repository: cold}}", "warning daily.backups.keep: 2 months in tier cold (cold): what goes before 90 days is billed as if it had stayed"},
		{"kind: Repository\nname: cool\nurl: azblob://a/b\nregion: westeurope\ntier: cool\nencrypted: false\n---\n" + schedule + "daily: {backups: {hours: [7], keep: 30 days, repository: cool}}", ""},
		{strings.Replace(schedule, "all: true", "all: true, onboardByTag: true, include: [{tag: {name: a}}]", 1) + "daily: {snapshots: {hours: [7], keep: 1}}", "note sources.all: everything in the regions is protected: what include and conditions name adds nothing"},
		{schedule + "daily: {snapshots: {hours: [7], keep: 1}}\nguest: {ignoreExitCodes: true}", "note guest: backupsOnly, ignoreMissingScripts and ignoreExitCodes mean nothing without a script"},
		{"kind: Installation\nmail: {server: m, from: a@example.com, user: u, passwordFrom: {environment: P}, tls: none}", "warning mail.tls: the mail account's password travels in the clear"},
	} {
		_, notes, err := read(base + c.text)
		var got []string
		for _, n := range notes {
			got = append(got, string(n.Level)+" "+n.Field+": "+n.Text)
			if n.Line == 0 || n.Kind == "" {
				t.Errorf("a note without a place: %+v", n)
			}
		}
		if strings.Join(got, "\n") != c.want || err != nil {
			t.Errorf("%v\ngot  %s\nwant %s\n%s", err, strings.Join(got, "\n"), c.want, c.text)
		}
	}
}

// TestRead_SnapshotRate proves that no accepted policy comes near Azure's seven snapshots of a disk in five minutes: the most
// crowded one makes four.
func TestRead_SnapshotRate(t *testing.T) {
	d, _, err := read(base + schedule + "daily: {snapshots: {hours: [7], perHour: 12, keep: 1}}\nweekly: {at: '07:01', snapshots: {days: [every], keep: 1}}\n" +
		"monthly: {at: '07:02', on: day 1, snapshots: {months: [every], keep: 1}}\nyearly: {at: '07:03', on: day 1, month: may, backups: {keep: 1 year, repository: hot}}")
	if err != nil {
		t.Fatal(err)
	}
	var all []holdfast.TimeOfDay
	for _, row := range d.SchedulePolicies[0].Rows {
		all = append(all, row.When.Times...)
	}
	for _, first := range all {
		within := 0
		for _, other := range all {
			if other >= first && other < first+5 {
				within++
			}
		}
		if within > 4 {
			t.Errorf("%d snapshots in the five minutes from %s", within, first)
		}
	}
}

// TestLoad reads the documents of a folder in the order of their names, and resolves paths where they stand.
func TestLoad(t *testing.T) {
	folder := t.TempDir()
	for name, text := range map[string]string{
		"b.yaml": "kind: Repository\nname: b\nurl: store\npasswordFrom: {file: ../secret}\n", "a.yml": "kind: Repository\nname: a\nurl: /srv\nencrypted: false\n", "c.txt": "no document",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Chdir(folder) // a relative name leads to the same
	files, err := document.Load(".")
	if err != nil || files[0].Name != "a.yml" {
		t.Fatalf("%+v, %v", files, err)
	}
	d, _, err := document.Read(files...)
	if err != nil || len(d.Repositories) != 2 || d.Repositories[0].Name != "a" {
		t.Fatalf("%+v, %v", d.Repositories, err)
	}
	if b := d.Repositories[1]; b.URL != filepath.Join(folder, "store") || b.Password.File != filepath.Join(filepath.Dir(folder), "secret") {
		t.Errorf("paths %+v", b)
	}
	for _, path := range []string{filepath.Join(folder, "d.yaml"), t.TempDir()} {
		if _, err := document.Load(path); !holdfast.IsKind(err, holdfast.KindNotFound) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// BenchmarkRead reads 500 policies, about as many as anybody has.
func BenchmarkRead(b *testing.B) {
	var text strings.Builder
	text.WriteString(base)
	for i := range 500 {
		text.WriteString(strings.Replace(schedule, "shop", fmt.Sprintf("shop %d", i), 1) + "daily: {days: [weekdays], snapshots: {hours: [7, 9, 11], keep: 4}, backups: {hours: [7], keep: 14 days, repository: hot}}\n---\n")
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if _, _, err := read(text.String()); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzRead looks for files that bring the reader down, that are refused without saying where, and for documents that are not the
// same once they are written and read again.
func FuzzRead(f *testing.F) {
	for text := range strings.SplitSeq(whole, "---\n") { // small ones: the engine takes long to make a large one smaller
		f.Add([]byte(text))
	}
	f.Add([]byte(schedule + "weekly: {at: '07:00', snapshots: {days: [monday], keep: 1}}\n---\nkind: Installation"))
	f.Add([]byte(schedule + "guest: {linux: {before: {path: /a.sh}}}\nnotify: {}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, _, err := document.Read(document.File{Name: "f.yaml", Data: data})
		var mistakes document.Mistakes
		if err != nil && (!errors.As(err, &mistakes) || len(mistakes) == 0) {
			t.Fatalf("an error that is no list of mistakes: %v", err)
		}
		for _, m := range mistakes {
			if m.Text == "" || m.File != "f.yaml" || m.Line == 0 && m.Field != "" {
				t.Fatalf("a mistake that does not say what and where: %+v", m)
			}
		}
		if err != nil {
			return
		}
		text, err := document.Write(d)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := document.Read(document.File{Name: "f.yaml", Data: text})
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		if twice, err := document.Write(again); err != nil || string(twice) != string(text) {
			t.Fatalf("%v\n%s\n%s", err, text, twice)
		}
	})
}
