package document

import (
	"fmt"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

// term says of a field what it means and what is accepted: to people in a sentence, to editors in the words of JSON Schema.
// What only holds for several fields together is the reader's to check.
type term struct {
	says      string
	otherwise any      // what holds when the field is left out; nil where that is nothing
	words     []string // the words accepted, of a text or of the items of a list
	pattern   string
	low, high *float64 // of a number, or of the numbers of a list
	itemsMax  int
	one       bool // of a mapping: exactly one of its fields is given
}

func number(n float64) *float64 { return &n }

// Words and patterns that several fields share.
var (
	dayWords   = []string{wordEvery, wordWeekdays, wordWeekend, "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"}
	eventWords = []string{string(holdfast.EventSessionEnded), string(holdfast.EventSLAReported), string(holdfast.EventSlotsMissed)}
	monthWords = []string{
		wordEvery, "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december",
	}
)

const (
	namePattern   = `^[^/\\"':|<>+=;,?!*%#^@&$.\s]([^/\\"':|<>+=;,?!*%#^@&$.]{0,253}[^/\\"':|<>+=;,?!*%#^@&$.\s])?$`
	regionPattern = `^[a-z]+[0-9]*[a-z]*$`
	guidPattern   = `^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`
	groupPattern  = `^/[Ss]ubscriptions/[^/]+/[Rr]esource[Gg]roups/[^/]+$`
	vmPattern     = `^/[Ss]ubscriptions/[^/]+/[Rr]esource[Gg]roups/[^/]+/providers/[Mm]icrosoft\.[Cc]ompute/virtual[Mm]achines/[^/]+$`
	mailPattern   = `^[^@\s]+@[^@\s]+$`
	clockPattern  = `([01]?[0-9]|2[0-3]):[0-5][0-9]`
)

// types are the patterns of values that read themselves, by the name of their type.
var types = map[string]string{
	"Period":    `^[0-9]+ (minute|hour|day|month|year)s?$`,
	"TimeOfDay": "^" + clockPattern + "$",
	"MonthDay":  `^((first|second|third|fourth|last) (monday|tuesday|wednesday|thursday|friday|saturday|sunday)|day ([1-9]|[12][0-9]|3[01])|last day)$`,
	"window":    "^" + clockPattern + " ?- ?" + clockPattern + "$",
}

// titles say what the documents of a kind are.
var titles = map[string]string{
	KindSchedulePolicy:  "A policy that protects machines at exact times.",
	KindSLAPolicy:       "A policy that protects machines as an SLA template asks, and is judged by it.",
	KindSLATemplate:     "How often points are made, in which windows, how long they are kept, and what share of them must exist.",
	KindStorageTemplate: "Which repositories points go to, by the region of the machines.",
	KindRepository:      "A place for backups or archives.",
	KindInstallation:    "The settings that all policies share; one document at the most.",
}

// vocabulary has a term for each field, by the structs of fields.go: the type without its ending, a dot, and the field. A
// field of the same name that means the same everywhere stands without a type.
var vocabulary = map[string]term{
	"kind":        {says: "what kind of document this is"},
	"name":        {says: "its name, of 1 to 255 characters, without any of " + nameForbidden + "; unique in its kind, and among all policies", pattern: namePattern},
	"description": {says: "whatever is to be remembered about it"},

	"enabled":         {says: "false: it does nothing by itself; of a policy, retention of what it made goes on", otherwise: true},
	"priority":        {says: "who goes first where policies of a kind ask for the same machine: 1 before 2; all policies of a kind have one, or none", low: number(1)},
	"serviceAccount":  {says: "by whose permissions the policy acts; left out: the installation's"},
	"sources":         {says: "which machines the policy protects"},
	"guest":           {says: "what happens in running guests around a snapshot"},
	"snapshotOptions": {says: "what snapshots are like"},
	"retries": {
		says:      fmt.Sprintf("how often machines that failed are tried again after a scheduled run, ten minutes apart: 0 to %d", holdfast.MaxRetries),
		otherwise: retriesDefault, low: number(0), high: number(holdfast.MaxRetries),
	},
	"zone": {says: "the time zone of its schedule, by its IANA name such as Europe/Berlin; left out: that of the installation, and for that UTC"},

	"sources.regions":      {says: "regions by their short names, such as westeurope; nothing outside of them is protected", pattern: regionPattern},
	"sources.all":          {says: "true: every machine in the regions"},
	"sources.include":      {says: "machines that match any of these are protected"},
	"sources.conditions":   {says: "machines that match all parts of any of these are protected"},
	"sources.exclude":      {says: "machines that match any of these tags and ids are not protected, whatever includes them"},
	"sources.onboardByTag": {says: "true: the tag " + holdfast.OnboardingTag + " with this policy's name as its value protects a machine"},

	"selector.subscription":  {says: "all machines of a subscription, by its id", pattern: guidPattern},
	"selector.resourceGroup": {says: "all machines of a resource group, by its id: /subscriptions/ID/resourceGroups/NAME", pattern: groupPattern},
	"selector.tag":           {says: "all machines with a tag"},
	"selector.vm":            {says: "one machine, by its id", pattern: vmPattern},

	"exclusion.tag":           {says: "all machines with a tag"},
	"exclusion.vm":            {says: "one machine, by its id", pattern: vmPattern},
	"condition.name":          {says: fmt.Sprintf("its name, of 1 to %d characters", conditionNameMax)},
	"condition.subscription":  {says: "the machine is in this subscription", pattern: guidPattern},
	"condition.resourceGroup": {says: "the machine is in this resource group", pattern: groupPattern},
	"condition.tags":          {says: "the machine has all these tags: two at least, or one with subscription or resourceGroup"},

	"tag.name":  {says: fmt.Sprintf("the name of the tag, of 1 to %d characters; its case does not matter", tagNameMax)},
	"tag.value": {says: fmt.Sprintf("its value, of %d characters at the most, which must be equal", tagValueMax)},

	"guest.applicationConsistent": {says: "true: applications are asked to flush before the snapshot"},
	"guest.windows":               {says: "scripts in Windows guests"},
	"guest.linux":                 {says: "scripts in Linux guests"},
	"guest.backupsOnly":           {says: "true: scripts run only when the snapshot feeds a backup"},
	"guest.ignoreMissingScripts":  {says: "true: a snapshot is made where the script is missing, too"},
	"guest.ignoreExitCodes":       {says: "true: a snapshot is made, and counts, whatever the script returns"},
	"scripts.before":              {says: "the script that runs before the snapshot"},
	"scripts.after":               {says: "the script that runs after the snapshot"},
	"script.path":                 {says: "where the script lies in every guest: in Windows C:\\… ending in " + strings.Join(windowsScripts, ", ") + ", in Linux /… ending in .sh"},
	"script.arguments":            {says: "its arguments; %instanceName%, %policyId% and %policyName% stand for what they say"},

	"snapshotOption.copyTags":        {says: "true: snapshots get the tags of their disks"},
	"snapshotOption.tags":            {says: fmt.Sprintf("tags that snapshots get, at most %d", holdfast.MaxSnapshotTags), itemsMax: holdfast.MaxSnapshotTags},
	"snapshotOption.resourceGroups":  {says: "by the id of a subscription, the name of a resource group of it that snapshots go to; otherwise beside their machine"},
	"snapshotOption.crashConsistent": {says: "true: the disks of a machine are snapshotted as one crash-consistent set where Azure can do it"},

	"daily":   {says: "runs at some hours of some days"},
	"weekly":  {says: "runs once a day, on some days of the week"},
	"monthly": {says: "runs on one day of some months"},
	"yearly":  {says: "runs on one day of the year"},

	"daily.days":              {says: "days of the week", otherwise: []string{wordEvery}, words: dayWords},
	"daily.snapshots":         {says: "snapshots that are made and kept"},
	"daily.backups":           {says: "backups that are made and kept; their hours become hours of the snapshots as well"},
	"dailySnapshot.hours":     {says: "hours at which snapshots are made, from 0 to 23; those of the backups are added", low: number(0), high: number(hoursInADay - 1)},
	"dailySnapshot.perHour":   {says: "how many snapshots in each of these hours, evenly spaced: 1, 2, 3, 4, 6 or 12", otherwise: 1, words: []string{"1", "2", "3", "4", "6", "12"}},
	"dailyBackup.hours":       {says: "hours at which backups are made, from 0 to 23", low: number(0), high: number(hoursInADay - 1)},
	"weekly.snapshots":        {says: "snapshots that are made and kept"},
	"weekly.backups":          {says: "backups that are made and kept; their days become days of the snapshots as well"},
	"weeklySnapshot.days":     {says: "days of the week; those of the backups are added", words: dayWords},
	"weeklyBackup.days":       {says: "days of the week", words: dayWords},
	"monthly.snapshots":       {says: "snapshots that are made and kept"},
	"monthly.backups":         {says: "backups that are made and kept; their months become months of the snapshots as well"},
	"monthly.archives":        {says: "archives that are made of a more frequent schedule's backups and kept; not together with backups"},
	"monthlySnapshot.months":  {says: "months; those of the backups are added", words: monthWords},
	"monthlyBackup.months":    {says: "months", words: monthWords},
	"yearly.month":            {says: "the month", words: monthWords[1:]},
	"yearly.backups":          {says: "backups that are made and kept"},
	"yearly.archives":         {says: "archives that are made of a more frequent schedule's backups and kept; not together with backups"},
	"weekly.at":               {says: "the time of day, such as \"07:00\""},
	"monthly.at":              {says: "the time of day, such as \"07:00\""},
	"yearly.at":               {says: "the time of day, such as \"07:00\""},
	"on":                      {says: "the day of the month: \"first monday\", \"day 15\" or \"last day\""},
	"repository":              {says: "the name of a repository: of tier archive for archives, of another one for backups"},
	"dailySnapshot.keep":      {says: "how many of these snapshots are kept, from 0 to 500", low: number(0), high: number(keepCountMax)},
	"weeklySnapshot.keep":     {says: "how many of these snapshots are kept, from 0 to 500", low: number(0), high: number(keepCountMax)},
	"monthlySnapshot.keep":    {says: "how many of these snapshots are kept, from 0 to 500", low: number(0), high: number(keepCountMax)},
	"dailyBackup.keep":        {says: "how long they are kept, in days or months: 14 days"},
	"weeklyBackup.keep":       {says: "how long they are kept, in days or months: 3 months"},
	"monthlyBackup.keep":      {says: "how long they are kept, in days or months: 12 months"},
	"yearlyBackup.keep":       {says: "how long they are kept, in years: 7 years"},
	"slaDaily.keep":           {says: "how long they are kept, in days or months: 14 days"},
	"slaWeekly.keep":          {says: "how long they are kept, in days or months: 3 months"},
	"slaMonthly.keep":         {says: "how long they are kept, in months or years: 12 months"},
	"sessionRecord.keep":      {says: "how long they are kept, in days, months or years: 12 months"},
	"monthlyCheck.months":     {says: "months; left out: every month", words: monthWords},
	"slaTemplate.healthCheck": {says: "the day of the month on which backups are checked"},
	"healthCheck":             {says: "the days on which backups are checked after the day's last session: days, or on; none when it is left out"},
	"healthCheck.days":        {says: "days of the week", words: dayWords},
	"healthCheck.months":      {says: "months; left out: every month", words: monthWords},

	"notify":               {says: "who hears of it; left out: nobody, whatever the installation's settings say"},
	"recipients":           {says: "addresses, beside those of the installation", pattern: mailPattern},
	"runNotify.enabled":    {says: "false: nobody hears of it, for the time being", otherwise: true},
	"slaNotify.enabled":    {says: "false: nobody hears of it, for the time being", otherwise: true},
	"onSuccess":            {says: "true: when all machines are well", otherwise: true},
	"onWarning":            {says: "true: when there are warnings", otherwise: true},
	"onFailure":            {says: "true: when machines failed after all retries", otherwise: true},
	"slaNotify.onlyMissed": {says: "true: only missed targets and removed machines are reported"},
	"slaNotify.at":         {says: "when the report goes out, on the day after the window closed in all regions; left out: as soon as it has"},

	"slaPolicy.slaTemplate":     {says: "the name of the SLA template: when, how long, which target"},
	"slaPolicy.storageTemplate": {says: "the name of the storage template: where to; not needed for snapshots alone"},

	"slaTemplate.target":        {says: "the share that must exist, in percent: 0 to 100", otherwise: targetDefault, low: number(0), high: number(100)},
	"slaTemplate.grace":         {says: "how long after a window closes what its last slots ask may become durable: minutes or hours, 24 hours at the most", otherwise: holdfast.Hours(1).String()},
	"slaTemplate.proof":         {says: "what a point must have been proven to, to count as proven"},
	"slaTemplate.changedRanges": {says: "true: backups read what changed since the last one, which keeps one snapshot of each disk", otherwise: true},
	"slaTemplate.snapshots":     {says: "the snapshots that are asked for"},
	"slaTemplate.backups":       {says: "the backups that are asked for"},
	"slaTemplate.archives":      {says: "the archives that are asked for, made of backups on the first or last day of a month"},
	"proof.level":               {says: "a level of proof from 1 to 5", otherwise: proofLevelDefault, low: number(1), high: number(proofLevelMax)},
	"proof.within":              {says: "how old the proof may be, in days", otherwise: holdfast.Days(proofDaysDefault).String()},
	"slaRows.window":            {says: "when slots lie, on the clock of each machine's region: 22:00-06:00, or from and to; left out: the whole day"},
	"slaRows.daily":             {says: "points at a frequency inside the window"},
	"slaRows.weekly":            {says: "the first point of the window on some days of the week counts as these as well"},
	"slaRows.monthly":           {says: "the first point of the window on a day of some months counts as these as well"},
	"window.from":               {says: "when the window opens"},
	"window.to":                 {says: "when it closes; a slot at this time is outside; before from: on the next day"},
	"slaDaily.every":            {says: "how often: 1, 2, 3, 4, 6, 8, 12 or 24 hours, of snapshots also 5, 10, 15, 20 or 30 minutes"},
	"slaWeekly.days":            {says: "days of the week", words: dayWords},
	"slaMonthly.months":         {says: "months", words: monthWords},

	"storageTemplate.backups":  {says: "where backups go"},
	"storageTemplate.archives": {says: "where archives go"},
	"placement.default":        {says: "the name of a repository, for regions that are not named"},
	"placement.regions":        {says: "by a region's short name, the name of the repository for its machines"},

	"repository.url":         {says: "where it is: a folder (relative to this file), file:///FOLDER or azblob://ACCOUNT/CONTAINER/FOLDER"},
	"repository.region":      {says: "the region of its storage account, which azblob needs", pattern: regionPattern},
	"repository.tier":        {says: "the access tier: hot, cool, cold, archive, or inferred, which is the account's own", otherwise: string(holdfast.TierInferred), words: []string{"hot", "cool", "cold", "archive", "inferred"}},
	"repository.redundancy":  {says: "the redundancy of its storage account, for costs: LRS (which stands for it when left out), ZRS, GRS or GZRS", words: []string{"LRS", "ZRS", "GRS", "GZRS"}},
	"repository.encrypted":   {says: "false: what is stored can be read without a key", otherwise: true},
	"repository.immutable":   {says: "true: objects are locked until the retention of what needs them ends, in a container with version-level immutability"},
	"repository.concurrency": {says: "how many machines' backups are written at once; 0: no limit of its own", otherwise: 0, low: number(0), high: number(concurrencyMax)},
	"passwordFrom":           {says: "where the password is found: exactly one of file, environment and vaultSecret; left out, and without vaultKey: the server draws one, and tells a recovery code once", one: true},
	"repository.vaultKey":    {says: "the vault key that opens it, instead of a password: https://VAULT/keys/NAME", pattern: `^https://[^/]+/keys/[^/]+$`},
	"secret.file":            {says: "a file whose first line is the password; relative to this file"},
	"secret.environment":     {says: "the name of an environment variable"},
	"secret.vaultSecret":     {says: "a vault's secret: https://VAULT/secrets/NAME", pattern: `^https://[^/]+/secrets/[^/]+$`},

	"installation.retentionAt":           {says: "when the daily pass of retention runs, in the installation's zone", otherwise: retentionAtDefault.String()},
	"installation.globalRetention":       {says: "an age at which snapshots of machines that no policy protects go; left out: never"},
	"globalRetention.age":                {says: "15 to 36135 days, 1 to 1188 months or 1 to 99 years"},
	"globalRetention.allSnapshots":       {says: "true: all policy-made snapshots go at this age, whatever their policies say"},
	"globalRetention.unprotectedBackups": {says: "true: backups of machines that no policy protects go at this age as well"},
	"installation.sessionRecords":        {says: "records of sessions; left out: kept for ever"},
	"installation.mail":                  {says: "how mail is sent, and who hears of policies that notify; left out: no mail"},
	"mail.enabled":                       {says: "false: no mail is sent, for the time being", otherwise: true},
	"mail.server":                        {says: "the host name of the mail server"},
	"mail.port":                          {says: "its port", otherwise: mailPortDefault, low: number(1), high: number(mailPortMax)},
	"mail.tls":                           {says: "startTLS: begun in the clear and refused without TLS; implicit: TLS from the first byte; none", otherwise: string(holdfast.MailTLSStart), words: []string{"startTLS", "implicit", "none"}},
	"mail.timeoutSeconds":                {says: "how long the server may take", otherwise: 100, low: number(1), high: number(3600)},
	"mail.user":                          {says: "the account at the server, with passwordFrom; left out: none"},
	"mail.from":                          {says: "the sender's address", pattern: mailPattern},
	"mail.recipients":                    {says: "who hears of all policies that notify", pattern: mailPattern},
	"mail.subject":                       {says: "the subject of a session's mail; %JobResult%, %JobName%, %ObjectCount% and %Issues% stand for what they say, other names in per cent signs are refused", otherwise: mailSubjectDefault},
	"mail.slaSubject":                    {says: "the subject of an SLA report; %JobName%, %ObjectCount%, %SLAType%, %SLAPeriod% and %SLAStatus% stand for what they say, other names in per cent signs are refused", otherwise: slaSubjectDefault},
	"installation.webhooks":              {says: fmt.Sprintf("addresses to which events are posted as signed JSON, at most %d; what policies say about mail does not matter to them", holdfast.WebhooksMax), itemsMax: holdfast.WebhooksMax},
	"webhook.url":                        {says: "where to post to: https://HOST/PATH, or http:// on this machine alone", pattern: `^https?://[^/@#]+(/[^#]*)?$`},
	"webhook.secretFrom":                 {says: "where the secret is found that posts are signed with: exactly one of file, environment and vaultSecret", one: true},
	"webhook.events":                     {says: "what is posted; left out: everything", otherwise: eventWords, words: eventWords},
	"mail.dailyReportAt":                 {says: "when the report of the last 24 hours goes out, in the installation's zone; left out: none"},
}

// termOf returns the term of a field of a type.
func termOf(owner, name string) (term, bool) {
	if t, ok := vocabulary[baseName(owner)+"."+name]; ok {
		return t, true
	}
	t, ok := vocabulary[name]
	return t, ok
}

// baseName is the name of a struct of fields.go without its ending.
func baseName(owner string) string { return strings.TrimSuffix(owner, "Fields") }

// kindShapes returns the shapes of all kinds.
func kindShapes() map[string]strictyaml.Shape {
	return map[string]strictyaml.Shape{
		KindSchedulePolicy:  strictyaml.ShapeOf(&schedulePolicyFields{}),
		KindSLAPolicy:       strictyaml.ShapeOf(&slaPolicyFields{}),
		KindSLATemplate:     strictyaml.ShapeOf(&slaTemplateFields{}),
		KindStorageTemplate: strictyaml.ShapeOf(&storageTemplateFields{}),
		KindRepository:      strictyaml.ShapeOf(&repositoryFields{}),
		KindInstallation:    strictyaml.ShapeOf(&installationFields{}),
	}
}

// meaning returns what a field of a kind of document means; "" when there is no such field.
func meaning(kind, path string) string {
	shape, says := kindShapes()[kind], ""
	for part := range strings.SplitSeq(path, ".") {
		name, _, _ := strings.Cut(part, "[")
		found := false
		for _, f := range shape.Fields {
			if f.Name == name {
				t, _ := termOf(shape.Type, name)
				says, shape, found = t.says, f.Shape, true
				break
			}
		}
		if !found {
			return says
		}
		for shape.Element != nil && (shape.Form == strictyaml.FormList || shape.Form == strictyaml.FormTable) {
			shape = *shape.Element
		}
	}
	return says
}
