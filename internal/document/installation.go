package document

import (
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify/subject"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

const (
	zoneDefault        = "UTC"
	retentionAtDefault = holdfast.TimeOfDay(15) // 00:15
	globalAgeMin       = 15                     // days: below it a policy's own snapshots would go before they are of use
	globalAgeDaysMax   = 36_135
	globalAgeMonthsMax = 1188
	globalAgeYearsMax  = 99
	concurrencyMax     = 1000 // machines at once; Azure's own limits of a region are far below
	mailPortDefault    = 25
	mailPortMax        = 65_535
	mailTimeoutDefault = 100 * time.Second
	mailTimeoutMax     = time.Hour
	mailSubjectDefault = "[%JobResult%] %JobName% (%ObjectCount% instances) %Issues%"
	slaSubjectDefault  = "%JobName% (%ObjectCount% instances): [%SLAType% for the period %SLAPeriod% is %SLAStatus%]"
)

// defaultInstallation are the settings where no document says otherwise.
func defaultInstallation() holdfast.Installation {
	return holdfast.Installation{Zone: zoneDefault, RetentionAt: retentionAtDefault}
}

func (r *reader) readInstallation(p *page, part strictyaml.Part) {
	if r.installationPage != nil {
		p.wrong("kind", "one document of this kind", "the settings of the installation stand at %s already", r.installationPage.place())
		return
	}
	r.installationPage = p
	fields, ok := decode[installationFields](p, part)
	if noun := p.installation(fields); ok && !p.broken {
		r.installation = &entry[holdfast.Installation]{p, noun}
	}
}

func (p *page) installation(f installationFields) holdfast.Installation {
	i := defaultInstallation()
	if f.Zone != "" {
		i.Zone = f.Zone
		p.checkZone("zone", f.Zone)
	}
	i.RetentionAt = orDefault(f.RetentionAt, retentionAtDefault)
	if g := f.GlobalRetention; g != nil {
		p.checkGlobalAge("globalRetention.age", g.Age)
		i.ObsoleteAge = g.Age
		if g.AllSnapshots {
			i.SnapshotAge = g.Age
		}
		if g.UnprotectedBackups {
			i.UnprotectedAge = g.Age
		}
	}
	if s := f.SessionRecords; s != nil {
		p.checkKeep("sessionRecords.keep", s.Keep, holdfast.UnitDay, holdfast.UnitMonth, holdfast.UnitYear)
		i.SessionRecordAge = s.Keep
	}
	if f.Mail != nil {
		i.Mail = p.mail(*f.Mail)
	}
	i.Webhooks = p.webhooks(f.Webhooks)
	return i
}

func (p *page) checkGlobalAge(where string, age holdfast.Period) {
	low, high := 1, 0
	switch age.Unit {
	case holdfast.UnitDay:
		low, high = globalAgeMin, globalAgeDaysMax
	case holdfast.UnitMonth:
		high = globalAgeMonthsMax
	case holdfast.UnitYear:
		high = globalAgeYearsMax
	case holdfast.UnitMinute, holdfast.UnitHour:
	}
	if age.N < low || age.N > high {
		p.wrong(where, fmt.Sprintf("%d to %d days, 1 to %d months or 1 to %d years; leave globalRetention out for never", globalAgeMin, globalAgeDaysMax, globalAgeMonthsMax, globalAgeYearsMax),
			"%q is out of range", age)
	}
}

func (p *page) mail(f mailFields) *holdfast.Mail {
	m := &holdfast.Mail{
		Enabled: orDefault(f.Enabled, true), Server: f.Server, Port: orDefault(f.Port, mailPortDefault), TLS: holdfast.MailTLS(orDefault(f.TLS, string(holdfast.MailTLSStart))),
		Timeout: mailTimeoutDefault, User: f.User, Password: p.secret("mail.passwordFrom", f.PasswordFrom), From: f.From, Recipients: p.recipients("mail.recipients", f.Recipients),
		Subject: orDefault(f.Subject, mailSubjectDefault), SLASubject: orDefault(f.SLASubject, slaSubjectDefault),
		OnSuccess: orDefault(f.OnSuccess, true), OnWarning: orDefault(f.OnWarning, true), OnFailure: orDefault(f.OnFailure, true), DailyReportAt: f.DailyReportAt,
	}
	if f.TimeoutSeconds != nil {
		m.Timeout = time.Duration(*f.TimeoutSeconds) * time.Second
	}
	p.checkMail(*m)
	if (f.User != "") != (f.PasswordFrom != nil) {
		p.wrong("mail.user", "user and passwordFrom together, or neither", "user and passwordFrom belong together")
	}
	return m
}

func (p *page) checkMail(m holdfast.Mail) {
	if m.Server == "" || strings.ContainsAny(m.Server, " /:@") {
		p.wrong("mail.server", "a host name such as mail.example.com", "%q is not the name of a host", m.Server)
	}
	if m.Port < 1 || m.Port > mailPortMax {
		p.wrong("mail.port", fmt.Sprintf("1 to %d", mailPortMax), "%d is not a port", m.Port)
	}
	switch m.TLS {
	case holdfast.MailTLSNone, holdfast.MailTLSStart, holdfast.MailTLSFirst:
	default:
		p.wrong("mail.tls", "startTLS, implicit or none", "%q is not a way to keep mail private", m.TLS)
	}
	if m.Timeout < time.Second || m.Timeout > mailTimeoutMax {
		p.wrong("mail.timeoutSeconds", fmt.Sprintf("1 to %d", int(mailTimeoutMax.Seconds())), "%d seconds are out of range", int(m.Timeout.Seconds()))
	}
	p.checkAddress("mail.from", m.From)
	p.checkSubject("mail.subject", subject.Session, m.Subject)
	p.checkSubject("mail.slaSubject", subject.Report, m.SLASubject)
	if m.TLS == holdfast.MailTLSNone && m.User != "" {
		p.warning("mail.tls", "the mail account's password travels in the clear")
	}
}

func (p *page) checkSubject(where string, kind subject.Kind, template string) {
	if err := subject.Check(kind, template); err != nil {
		p.refuse(where, err)
	}
}

func (p *page) webhooks(fields []webhookFields) []holdfast.Webhook {
	var all []holdfast.Webhook
	for i, f := range fields {
		where := at("webhooks", i)
		if err := holdfast.CheckWebhookURL(f.URL); err != nil {
			p.refuse(where+".url", err)
		}
		if slices.ContainsFunc(all, func(other holdfast.Webhook) bool { return other.URL == f.URL }) {
			p.wrong(where+".url", "each address once", "%q is given twice", f.URL)
		}
		all = append(all, holdfast.Webhook{URL: f.URL, Secret: p.secret(where+".secretFrom", f.SecretFrom), Events: p.webhookEvents(where+".events", f.Events)})
	}
	if len(all) > holdfast.WebhooksMax {
		p.wrong("webhooks", fmt.Sprintf("%d at the most", holdfast.WebhooksMax), "there are %d webhooks", len(all))
	}
	return all
}

func (p *page) webhookEvents(where string, words []string) []holdfast.WebhookEvent {
	if len(words) == 0 {
		return holdfast.WebhookEvents()
	}
	var events []holdfast.WebhookEvent
	for i, word := range words {
		event := holdfast.WebhookEvent(word)
		switch {
		case !slices.Contains(holdfast.WebhookEvents(), event):
			p.wrong(at(where, i), "one of "+list(eventWords), "%q is not an event", word)
		case slices.Contains(events, event):
			p.wrong(at(where, i), "each event once", "%q is given twice", word)
		}
		events = append(events, event)
	}
	return events
}

// secret says where a secret is found, and that it does so in one way alone.
func (p *page) secret(where string, f *secretFields) holdfast.SecretSource {
	if f == nil {
		return holdfast.SecretSource{}
	}
	p.wantOne(where, "file, environment and vaultSecret", f.File != "", f.Environment != "", f.VaultSecret != "")
	if strings.ContainsAny(f.Environment, "= \t\n") {
		p.wrong(where+".environment", "the name of an environment variable, such as HOLDFAST_HOT_PASSWORD", "%q is not a name", f.Environment)
	}
	if f.VaultSecret != "" {
		p.checkVault(where+".vaultSecret", f.VaultSecret, "secrets")
	}
	return holdfast.SecretSource{File: p.at(f.File), Environment: f.Environment, VaultSecret: f.VaultSecret}
}

// checkVault refuses what is not the address of an object in a vault; collection is keys or secrets.
func (p *page) checkVault(where, address, collection string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || !isVaultPath(u.Path, collection) {
		p.wrong(where, fmt.Sprintf("https://VAULT/%s/NAME", collection), "%q is not the address of one of a vault's %s", address, collection)
	}
}

func isVaultPath(path, collection string) bool {
	_, name, ok := strings.Cut(path, "/"+collection+"/")
	return ok && name != "" && !strings.Contains(name, "/")
}

func (p *page) repository(f repositoryFields) holdfast.RepositorySpec {
	spec := holdfast.RepositorySpec{
		Name: f.Name, Description: f.Description, Region: f.Region, Tier: holdfast.Tier(orDefault(f.Tier, string(holdfast.TierInferred))), Redundancy: holdfast.Redundancy(f.Redundancy),
		Encrypted: orDefault(f.Encrypted, true), Immutable: f.Immutable, Concurrency: orDefault(f.Concurrency, 0),
		Password: p.secret("passwordFrom", f.PasswordFrom), KeyID: f.VaultKey,
	}
	var scheme string
	spec.URL, scheme = p.location(f.URL)
	p.checkStorage(spec, scheme)
	p.checkRedundancy(spec, scheme)
	if spec.Concurrency < 0 || spec.Concurrency > concurrencyMax {
		p.wrong("concurrency", fmt.Sprintf("a number of machines from 1 to %d, or 0 for no limit", concurrencyMax), "%d is out of range", spec.Concurrency)
	}
	p.checkOpening(spec)
	return spec
}

// Where a repository may be.
const (
	schemeFolder = "file"
	schemeBlob   = "azblob"
)

// location checks where a repository is and returns its address, that of a folder absolute or relative to the document, and
// its scheme; "" for an address that is refused.
func (p *page) location(address string) (location, known string) {
	const accepted = "a folder, file:///FOLDER or azblob://ACCOUNT/CONTAINER/FOLDER"
	scheme, rest, ok := strings.Cut(address, "://")
	switch {
	case address == "":
		p.wrong("url", accepted, "is empty")
	case !ok:
		return p.at(address), schemeFolder
	case scheme == schemeFolder:
		if path, err := url.PathUnescape(rest); err != nil || !filepath.IsAbs(path) {
			p.wrong("url", accepted, "%q does not name an absolute folder", address)
		}
		return address, schemeFolder
	case scheme == schemeBlob:
		if parts := strings.Split(rest, "/"); len(parts) < 2 || parts[0] == "" || parts[1] == "" {
			p.wrong("url", accepted, "%q does not name an account and a container", address)
		}
		return address, schemeBlob
	default:
		p.wrong("url", accepted, "%q has a scheme that is not known", address)
	}
	return address, ""
}

// checkStorage holds region, tier and lock against what the storage can do.
func (p *page) checkStorage(spec holdfast.RepositorySpec, scheme string) {
	switch spec.Tier {
	case holdfast.TierHot, holdfast.TierCool, holdfast.TierCold, holdfast.TierArchive, holdfast.TierInferred:
	default:
		p.wrong("tier", "hot, cool, cold, archive or inferred, which is the account's own", "%q is not an access tier", spec.Tier)
	}
	folder := scheme == schemeFolder
	switch {
	case folder && spec.Region != "":
		p.wrong("region", "a region for azblob alone", "a folder is in no region of Azure")
	case scheme == schemeBlob && spec.Region == "":
		p.wrong("region", "the region of the storage account, such as westeurope", "missing")
	case scheme == schemeBlob:
		p.checkRegion("region", spec.Region)
	}
	const lockable = "false, or a container of Azure Blob with version-level immutability in another tier than archive"
	switch {
	case spec.Immutable && folder:
		p.wrong("immutable", lockable, "a folder cannot lock what it holds")
	case spec.Immutable && spec.Tier == holdfast.TierArchive:
		p.wrong("immutable", lockable, "what lies in tier archive cannot have its locks moved, which repositories need")
	}
	if folder && spec.Tier != holdfast.TierArchive && spec.Tier != holdfast.TierInferred {
		p.wrong("tier", "archive, for a folder that archives go to, or none", "a folder has no access tiers")
	}
}

// checkRedundancy holds the redundancy against what storage accounts have, and tier archive against what it can be combined with.
func (p *page) checkRedundancy(spec holdfast.RepositorySpec, scheme string) {
	zones := false
	switch spec.Redundancy {
	case "":
		return
	case holdfast.RedundancyLRS, holdfast.RedundancyGRS:
	case holdfast.RedundancyZRS, holdfast.RedundancyGZRS:
		zones = true
	default:
		p.wrong("redundancy", "LRS, ZRS, GRS or GZRS; RA-GRS and RA-GZRS count as GRS and GZRS", "%q is not a redundancy of storage accounts", spec.Redundancy)
		return
	}
	switch {
	case scheme == schemeFolder:
		p.wrong("redundancy", "a redundancy for azblob alone", "a folder is in no storage account")
	case zones && spec.Tier == holdfast.TierArchive:
		p.wrong("redundancy", "LRS or GRS, which tier archive can be combined with", "accounts of redundancy %s have no tier archive", spec.Redundancy)
	}
}

// checkOpening wants one way at the most to open an encrypted repository, and none where there is nothing to open. Where none is given the
// server draws a password.
func (p *page) checkOpening(spec holdfast.RepositorySpec) {
	password, key := spec.Password != (holdfast.SecretSource{}), spec.KeyID != ""
	switch {
	case spec.Encrypted && password && key:
		p.wrong("passwordFrom", "passwordFrom or vaultKey, or neither", "given together with vaultKey")
	case !spec.Encrypted && (password || key):
		p.wrong("encrypted", "true, or neither passwordFrom nor vaultKey", "the repository is not encrypted, but something is to open it")
	}
	if key {
		p.checkVault("vaultKey", spec.KeyID, "keys")
	}
}
