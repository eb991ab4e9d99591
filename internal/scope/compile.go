package scope

import (
	"cmp"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// compiled is a policy ready to be asked.
type compiled struct {
	Policy
	sources holdfast.Sources
	regions map[string]bool
}

// claim is one thing in a policy's sources that matches machines.
type claim struct {
	policy int // index into Resolver.policies
	rank   rank
	words  string // as Decision.Why says it
	item   Item   // as Missing says it
	// What else must match, of a condition.
	within string // the key of a subscription or group; "" when there is none
	tags   []holdfast.Tag
}

// rank orders the claims of one policy: what excludes comes first, then what says most exactly that this machine is meant.
type rank int

const (
	rankExclusion rank = iota
	rankMachine
	rankOnboarding
	rankCondition
	rankTag
	rankGroup
	rankSubscription
	rankAll
	rankNoOnboarding // last: whatever else matches says more
)

// restMatches reports whether the parts match that the index did not look at.
func (c *claim) restMatches(t traits) bool {
	if c.within != "" && c.within != t.subscription && c.within != t.group {
		return false
	}
	for _, tag := range c.tags {
		if !t.has(tag) {
			return false
		}
	}
	return true
}

// New compiles the sources of all policies.
func New(documents holdfast.Documents) *Resolver {
	r := &Resolver{
		policies: ordered(documents), named: map[string]bool{},
		bySubscription: map[string][]int{}, byGroup: map[string][]int{}, byMachine: map[string][]int{}, byRegion: map[string][]int{},
		byTag: map[holdfast.Tag][]int{},
	}
	var drafts []draft
	for i, p := range r.policies {
		r.named[p.Name] = true
		for _, d := range draftsOf(p) {
			d.policy = i
			drafts = append(drafts, d)
		}
	}
	// The order makes the answer independent of the order in which people list selectors.
	slices.SortStableFunc(drafts, func(a, b draft) int {
		return cmp.Or(cmp.Compare(a.policy, b.policy), cmp.Compare(a.rank, b.rank), strings.Compare(a.words, b.words), strings.Compare(a.item.Name, b.item.Name))
	})
	for _, d := range drafts {
		r.register(d)
	}
	return r
}

// ordered returns the policies in the order in which they go.
func ordered(documents holdfast.Documents) []compiled {
	var all []compiled
	add := func(kind holdfast.PolicyKind, p holdfast.PolicyCommon) {
		c := compiled{
			Policy:  Policy{Name: p.Name, Kind: kind, Priority: p.Priority, Enabled: p.Enabled},
			sources: p.Sources, regions: map[string]bool{},
		}
		for _, region := range p.Sources.Regions {
			c.regions[strings.ToLower(region)] = true
		}
		all = append(all, c)
	}
	for _, p := range documents.SLAPolicies {
		add(holdfast.PolicySLA, p.PolicyCommon)
	}
	for _, p := range documents.SchedulePolicies {
		add(holdfast.PolicySchedule, p.PolicyCommon)
	}
	slices.SortStableFunc(all, func(a, b compiled) int {
		return cmp.Or(compareKinds(a.Kind, b.Kind), cmp.Compare(a.Priority, b.Priority), strings.Compare(a.Name, b.Name))
	})
	for i := range all {
		all[i].at = i
	}
	return all
}

// compareKinds puts SLA policies first.
func compareKinds(a, b holdfast.PolicyKind) int {
	switch {
	case a == b:
		return 0
	case a == holdfast.PolicySLA:
		return -1
	}
	return 1
}

// draft is a claim with the index that it belongs to.
type draft struct {
	claim
	in  index
	tag holdfast.Tag // with inTags: its key
	key string       // of the other indexes
}

type index int

const (
	inRegions index = iota
	inSubscriptions
	inGroups
	inMachines
	inTags
)

// draftsOf returns what the sources of a policy ask for and exclude.
func draftsOf(p compiled) []draft {
	var drafts []draft
	for region := range p.regions {
		if p.sources.All {
			drafts = append(drafts, draft{in: inRegions, key: region, claim: claim{rank: rankAll, words: "all machines in " + region}})
		}
	}
	for _, s := range p.sources.Include {
		if d, ok := selected(s); ok {
			drafts = append(drafts, d)
		}
	}
	for _, s := range p.sources.Exclude {
		if d, ok := selected(s); ok {
			d.rank, d.item.Exclusion = rankExclusion, true
			drafts = append(drafts, d)
		}
	}
	for _, c := range p.sources.Conditions {
		if d, ok := conditioned(c); ok {
			drafts = append(drafts, d)
		}
	}
	return append(drafts, onboarded(p))
}

// selected makes the claim of a selector; false when no field of it is set.
func selected(s holdfast.Selector) (draft, bool) {
	switch {
	case s.VM != "":
		item := Item{Type: ItemVM, Name: string(s.VM)}
		return draft{in: inMachines, key: s.VM.Key(), claim: claim{rank: rankMachine, item: item, words: "machine " + s.VM.Name()}}, true
	case s.Tag != nil:
		item := Item{Type: ItemTag, Name: tagText(*s.Tag)}
		return draft{in: inTags, tag: folded(*s.Tag), claim: claim{rank: rankTag, item: item, words: tagWords(*s.Tag)}}, true
	case s.ResourceGroup != "":
		item := Item{Type: ItemResourceGroup, Name: string(s.ResourceGroup)}
		return draft{in: inGroups, key: s.ResourceGroup.Key(), claim: claim{rank: rankGroup, item: item, words: groupWords(s.ResourceGroup)}}, true
	case s.Subscription != "":
		item := Item{Type: ItemSubscription, Name: s.Subscription}
		return draft{in: inSubscriptions, key: strings.ToLower(s.Subscription), claim: claim{rank: rankSubscription, item: item, words: subscriptionWords(s.Subscription)}}, true
	}
	return draft{}, false
}

// conditioned makes the claim of a condition, found by its first tag; false when it has no parts. One without tags is found
// by its subscription or group.
func conditioned(c holdfast.Condition) (draft, bool) {
	d := draft{claim: claim{rank: rankCondition, item: Item{Type: ItemCondition, Name: c.Name}, words: conditionWords(c)}}
	switch {
	case c.ResourceGroup != "":
		d.in, d.key, d.within = inGroups, c.ResourceGroup.Key(), c.ResourceGroup.Key()
	case c.Subscription != "":
		d.in, d.key, d.within = inSubscriptions, strings.ToLower(c.Subscription), strings.ToLower(c.Subscription)
	case len(c.Tags) == 0:
		return draft{}, false
	}
	for i, tag := range c.Tags {
		if i == 0 {
			d.in, d.tag = inTags, folded(tag)
			continue
		}
		d.tags = append(d.tags, folded(tag))
	}
	return d, true
}

// onboarded makes the claim of the onboarding tag. A policy that takes no machines by tag has it as well, to say so.
func onboarded(p compiled) draft {
	tag := holdfast.Tag{Name: holdfast.OnboardingTag, Value: p.Name}
	d := draft{in: inTags, tag: tag, claim: claim{rank: rankNoOnboarding, words: "onboarding " + tagWords(tag)}}
	if p.sources.OnboardByTag {
		d.rank = rankOnboarding
	}
	return d
}

// register adds a claim to its index.
func (r *Resolver) register(d draft) {
	at := len(r.claims)
	r.claims = append(r.claims, d.claim)
	switch d.in {
	case inRegions:
		r.byRegion[d.key] = append(r.byRegion[d.key], at)
	case inSubscriptions:
		r.bySubscription[d.key] = append(r.bySubscription[d.key], at)
	case inGroups:
		r.byGroup[d.key] = append(r.byGroup[d.key], at)
	case inMachines:
		r.byMachine[d.key] = append(r.byMachine[d.key], at)
	case inTags:
		r.byTag[d.tag] = append(r.byTag[d.tag], at)
	}
}

// folded returns the tag in the form that is compared: names without regard to case, values exactly.
func folded(tag holdfast.Tag) holdfast.Tag {
	return holdfast.Tag{Name: strings.ToLower(tag.Name), Value: tag.Value}
}
