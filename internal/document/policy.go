package document

import (
	"fmt"
	"net/mail"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

const (
	retriesDefault   = 3
	conditionNameMax = 64
	tagNameMax       = 512 // Azure's own limits of tags
	tagValueMax      = 256
	ownTagPrefix     = "holdfast-" // of the tags by which we know our own snapshots
)

// Names as Azure accepts them, compiled once.
var (
	resourceGroupName = regexp.MustCompile(`^[\p{L}\p{Nd}._()-]{0,89}[\p{L}\p{Nd}_()-]$`)
	windowsPath       = regexp.MustCompile(`^[A-Za-z]:\\`)
)

// common makes what both kinds of policy have, the notification aside.
func (p *page) common(h header, f policyFields) holdfast.PolicyCommon {
	c := holdfast.PolicyCommon{
		Name: h.Name, Description: h.Description, Enabled: orDefault(f.Enabled, true), ServiceAccount: f.ServiceAccount,
		Sources: p.sources(f.Sources), Guest: p.guest(f.Guest), Snapshots: p.snapshotOptions(f.SnapshotOptions),
		Priority: orDefault(f.Priority, 0), Retries: orDefault(f.Retries, retriesDefault),
	}
	if f.Priority != nil && c.Priority < 1 {
		p.wrong("priority", "a number from 1 on; 1 goes first", "%d is not a priority", c.Priority)
	}
	if c.Retries < 0 || c.Retries > holdfast.MaxRetries {
		p.wrong("retries", fmt.Sprintf("a number from 0, which is never, to %d", holdfast.MaxRetries), "%d is out of range", c.Retries)
	}
	return c
}

func orDefault[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}

func (p *page) sources(f sourcesFields) holdfast.Sources {
	s := holdfast.Sources{Regions: f.Regions, All: f.All, OnboardByTag: f.OnboardByTag}
	if len(f.Regions) == 0 {
		p.wrong("sources.regions", "one region at least, such as westeurope", "the policy protects nothing: no region is named")
	}
	for i, region := range f.Regions {
		p.checkRegion(at("sources.regions", i), region)
		if slices.Index(f.Regions, region) < i {
			p.wrong(at("sources.regions", i), "each region once", "%q is named twice", region)
		}
	}
	for i, selector := range f.Include {
		s.Include = append(s.Include, p.selector(at("sources.include", i), selector))
	}
	for i, condition := range f.Conditions {
		s.Conditions = append(s.Conditions, p.condition(at("sources.conditions", i), condition, f.Conditions[:i]))
	}
	for i, selector := range f.Exclude {
		s.Exclude = append(s.Exclude, p.exclusion(at("sources.exclude", i), selector))
	}
	p.checkSelection(s)
	return s
}

// at is the path of an element of a list.
func at(list string, i int) string { return fmt.Sprintf("%s[%d]", list, i) }

// checkRegion refuses what is not the name of a region. A misspelt one would protect nothing, and say nothing.
func (p *page) checkRegion(where, region string) {
	if _, known := schedule.RegionZone(region); known {
		return
	}
	accepted := "Azure's short name of a region, such as westeurope"
	if near := nearest(strings.ToLower(strings.ReplaceAll(region, " ", "")), schedule.Regions()); near != "" {
		accepted = "perhaps " + near
	}
	p.wrong(where, accepted, "%q is not a region that is known", region)
}

// nearest returns the word that differs least from another one, in two letters at the most; "" when there is none.
func nearest(word string, known []string) string {
	const lettersMax = 2
	best, least := "", lettersMax+1
	for _, candidate := range known {
		if d := distance(word, candidate); d < least {
			best, least = candidate, d
		}
	}
	return best
}

// distance counts the letters to add, drop or change that make one word another.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// checkSelection refuses sources that select no machine whatever exists in Azure.
func (p *page) checkSelection(s holdfast.Sources) {
	const accepted = "all: true, or include, conditions or onboardByTag"
	if s.All || s.OnboardByTag || len(s.Conditions) > 0 {
		if s.All && len(s.Include)+len(s.Conditions) > 0 {
			p.note("sources.all", "everything in the regions is protected: what include and conditions name adds nothing")
		}
		return
	}
	if len(s.Include) == 0 {
		p.wrong("sources", accepted, "the policy protects nothing: it includes nothing")
		return
	}
	for _, included := range s.Include {
		if !slices.ContainsFunc(s.Exclude, func(excluded holdfast.Selector) bool { return sameSelector(included, excluded) }) {
			return
		}
	}
	p.wrong("sources.exclude", "exclude less than is included", "the policy protects nothing: everything that it includes is excluded")
}

func sameSelector(a, b holdfast.Selector) bool {
	switch {
	case a.Tag != nil && b.Tag != nil:
		return strings.EqualFold(a.Tag.Name, b.Tag.Name) && a.Tag.Value == b.Tag.Value
	case a.VM != "" && b.VM != "":
		return a.VM.Equal(b.VM)
	}
	return false
}

// exclusion makes a selector of what an exclusion may be: a subscription or resource group is left out by not including it.
func (p *page) exclusion(where string, f exclusionFields) holdfast.Selector {
	if !p.wantOne(where, "tag or vm", f.Tag != nil, f.VM != "") {
		return holdfast.Selector{}
	}
	return p.selector(where, selectorFields{Tag: f.Tag, VM: f.VM})
}

// wantOne refuses a mapping in which not exactly one of some fields is given.
func (p *page) wantOne(where, fields string, given ...bool) bool {
	n := 0
	for _, set := range given {
		if set {
			n++
		}
	}
	if n != 1 {
		p.wrong(where, "exactly one of "+fields, "%d of them are given", n)
	}
	return n == 1
}

func (p *page) selector(where string, f selectorFields) holdfast.Selector {
	if !p.wantOne(where, "subscription, resourceGroup, tag and vm", f.Subscription != "", f.ResourceGroup != "", f.Tag != nil, f.VM != "") {
		return holdfast.Selector{}
	}
	s := holdfast.Selector{Subscription: f.Subscription, ResourceGroup: holdfast.ResourceID(f.ResourceGroup), VM: holdfast.ResourceID(f.VM)}
	p.checkSubscription(where+".subscription", f.Subscription)
	p.checkResourceGroup(where+".resourceGroup", s.ResourceGroup)
	if f.Tag != nil {
		tag := p.tag(where+".tag", *f.Tag)
		s.Tag = &tag
	}
	if _, err := holdfast.ParseResourceID(f.VM); f.VM != "" && (err != nil || !strings.EqualFold(s.VM.Type(), "Microsoft.Compute/virtualMachines")) {
		p.wrong(where+".vm", "/subscriptions/ID/resourceGroups/NAME/providers/Microsoft.Compute/virtualMachines/NAME", "%q is not the id of a virtual machine", f.VM)
	}
	return s
}

func (p *page) checkSubscription(where, id string) {
	if _, err := uuid.Parse(id); id != "" && (err != nil || len(id) != len(uuid.UUID{}.String())) {
		p.wrong(where, "a GUID such as 11111111-1111-1111-1111-111111111111", "%q is not the id of a subscription", id)
	}
}

func (p *page) checkResourceGroup(where string, id holdfast.ResourceID) {
	if id == "" {
		return
	}
	parts := strings.Split(string(id), "/")
	wellFormed := len(parts) == 5 && parts[0] == "" && strings.EqualFold(parts[1], "subscriptions") && strings.EqualFold(parts[3], "resourceGroups")
	if wellFormed {
		_, err := uuid.Parse(parts[2])
		wellFormed = err == nil && resourceGroupName.MatchString(parts[4])
	}
	if !wellFormed {
		p.wrong(where, "/subscriptions/ID/resourceGroups/NAME", "%q is not the id of a resource group", id)
	}
}

func (p *page) tag(where string, f tagFields) holdfast.Tag {
	name, value := len([]rune(f.Name)), len([]rune(f.Value))
	if name < 1 || name > tagNameMax || strings.ContainsAny(f.Name, `<>%&\?/`) {
		p.wrong(where+".name", fmt.Sprintf(`1 to %d characters, none of them one of < > %% & \ ? /`, tagNameMax), "%q is not the name of a tag", f.Name)
	}
	if value > tagValueMax {
		p.wrong(where+".value", fmt.Sprintf("at most %d characters", tagValueMax), "has %d characters", value)
	}
	return holdfast.Tag(f)
}

// condition makes a condition; those before it are there to compare names with.
func (p *page) condition(where string, f conditionFields, before []conditionFields) holdfast.Condition {
	c := holdfast.Condition{Name: f.Name, Subscription: f.Subscription, ResourceGroup: holdfast.ResourceID(f.ResourceGroup)}
	p.checkSubscription(where+".subscription", c.Subscription)
	p.checkResourceGroup(where+".resourceGroup", c.ResourceGroup)
	for i, tag := range f.Tags {
		c.Tags = append(c.Tags, p.tag(at(where+".tags", i), tag))
	}
	const accepted = "two tags or more, or one subscription and tags, or one resource group and tags"
	switch scoped := c.Subscription != "" || c.ResourceGroup != ""; {
	case c.Subscription != "" && c.ResourceGroup != "":
		p.wrong(where, accepted, "names a subscription and a resource group")
	case len(c.Tags) == 0 || !scoped && len(c.Tags) < 2:
		p.wrong(where+".tags", accepted, "too few parts: a condition is met by what matches all of them")
	}
	if n := len([]rune(c.Name)); n < 1 || n > conditionNameMax {
		p.wrong(where+".name", fmt.Sprintf("1 to %d characters", conditionNameMax), "has %d characters", n)
	}
	if slices.ContainsFunc(before, func(b conditionFields) bool { return b.Name == c.Name }) {
		p.wrong(where+".name", "another name", "a condition before is called %q already", c.Name)
	}
	return c
}

func (p *page) snapshotOptions(f *snapshotOptionFields) holdfast.SnapshotOptions {
	if f == nil {
		return holdfast.SnapshotOptions{}
	}
	const where = "snapshotOptions"
	o := holdfast.SnapshotOptions{CopyTags: f.CopyTags, ResourceGroups: f.ResourceGroups, CrashConsistent: f.CrashConsistent}
	if len(f.Tags) > holdfast.MaxSnapshotTags {
		p.wrong(where+".tags", fmt.Sprintf("at most %d tags", holdfast.MaxSnapshotTags), "%d tags are given", len(f.Tags))
	}
	for i, fields := range f.Tags {
		tag, field := p.tag(at(where+".tags", i), fields), at(where+".tags", i)+".name"
		if strings.HasPrefix(strings.ToLower(tag.Name), ownTagPrefix) {
			p.wrong(field, "a name that does not begin with "+ownTagPrefix, "%q could be taken for a tag by which Holdfast knows its own snapshots", tag.Name)
		}
		if slices.ContainsFunc(o.Tags, func(t holdfast.Tag) bool { return strings.EqualFold(t.Name, tag.Name) }) {
			p.wrong(field, "each name once, whatever its case", "%q is given twice", tag.Name)
		}
		o.Tags = append(o.Tags, tag)
	}
	for _, subscription := range sortedKeys(f.ResourceGroups) {
		p.checkSubscription(where+".resourceGroups."+subscription, subscription)
		if group := f.ResourceGroups[subscription]; !resourceGroupName.MatchString(group) {
			p.wrong(where+".resourceGroups."+subscription, "the name of a resource group of that subscription", "%q is not the name of a resource group", group)
		}
	}
	return o
}

func (p *page) guest(f *guestFields) holdfast.GuestProcessing {
	if f == nil {
		return holdfast.GuestProcessing{}
	}
	g := holdfast.GuestProcessing{
		ApplicationConsistent: f.ApplicationConsistent, BackupsOnly: f.BackupsOnly, IgnoreMissingScripts: f.IgnoreMissingScripts, IgnoreExitCodes: f.IgnoreExitCodes,
		Windows: p.scripts("guest.windows", f.Windows, p.checkWindowsScript), Linux: p.scripts("guest.linux", f.Linux, p.checkLinuxScript),
	}
	if g.Windows == (holdfast.GuestScripts{}) && g.Linux == (holdfast.GuestScripts{}) && (f.BackupsOnly || f.IgnoreMissingScripts || f.IgnoreExitCodes) {
		p.note("guest", "backupsOnly, ignoreMissingScripts and ignoreExitCodes mean nothing without a script")
	}
	return g
}

func (p *page) scripts(where string, f *scriptsFields, check func(where, path string)) holdfast.GuestScripts {
	if f == nil {
		return holdfast.GuestScripts{}
	}
	script := func(where string, f *scriptFields) holdfast.Script {
		if f == nil {
			return holdfast.Script{}
		}
		check(where+".path", f.Path)
		return holdfast.Script(*f)
	}
	return holdfast.GuestScripts{Before: script(where+".before", f.Before), After: script(where+".after", f.After)}
}

// windowsScripts are the endings of programs that a Windows guest runs.
var windowsScripts = []string{".exe", ".bat", ".cmd", ".wsf", ".js", ".vbs", ".ps1"}

func (p *page) checkWindowsScript(where, script string) {
	if !windowsPath.MatchString(script) || !slices.Contains(windowsScripts, strings.ToLower(path.Ext(strings.ReplaceAll(script, `\`, "/")))) {
		p.wrong(where, `a path with its drive, such as C:\scripts\before.ps1, that ends in `+strings.Join(windowsScripts, ", "), "%q is not the path of a script in Windows", script)
	}
}

func (p *page) checkLinuxScript(where, script string) {
	if !strings.HasPrefix(script, "/") || path.Ext(script) != ".sh" {
		p.wrong(where, "a path from the root, such as /opt/backup/before.sh, that ends in .sh", "%q is not the path of a script in Linux", script)
	}
}

func (p *page) runNotify(f *runNotifyFields) holdfast.PolicyNotification {
	if f == nil {
		return holdfast.PolicyNotification{}
	}
	return holdfast.PolicyNotification{
		Enabled: orDefault(f.Enabled, true), Recipients: p.recipients("notify.recipients", f.Recipients),
		OnSuccess: orDefault(f.OnSuccess, true), OnWarning: orDefault(f.OnWarning, true), OnFailure: orDefault(f.OnFailure, true),
	}
}

func (p *page) slaNotify(f *slaNotifyFields) holdfast.PolicyNotification {
	if f == nil {
		return holdfast.PolicyNotification{}
	}
	return holdfast.PolicyNotification{
		Enabled: orDefault(f.Enabled, true), Recipients: p.recipients("notify.recipients", f.Recipients), OnlyMissed: f.OnlyMissed, At: f.At,
	}
}

func (p *page) recipients(where string, addresses []string) []string {
	for i, address := range addresses {
		p.checkAddress(at(where, i), address)
		if slices.Index(addresses, address) < i {
			p.wrong(at(where, i), "each address once", "%q is given twice", address)
		}
	}
	return addresses
}

func (p *page) checkAddress(where, address string) {
	if parsed, err := mail.ParseAddress(address); err != nil || parsed.Address != address {
		p.wrong(where, "one address such as backup@example.com, without a name around it", "%q is not an e-mail address", address)
	}
}
