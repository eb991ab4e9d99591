// Package scope decides which policy protects which machine, and says why.
//
// What it promises: a machine has at most one policy. The answer depends on what the documents and the machine say, and not
// on the order in which either is listed. Every policy that asked for a machine and does not get it is named with the
// reason. Each machine costs its own tags and what matches it, however many selectors the documents hold.
//
// It is pure: documents and machines in, decisions out. What it must never do: take a machine that the inventory lacks for
// one that was deleted. An inventory is a listing, and listings lag behind; it only says what they did not show.
//
// The rules are in doc/policies.md, "Scope".
package scope

import (
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// Policy is what decisions say of a policy.
type Policy struct {
	Name     string
	Kind     holdfast.PolicyKind
	Priority int
	Enabled  bool // a disabled policy keeps its machines: no other one takes them

	at int // its place in the order
}

// Decision says who protects one machine. Policies are shared with the Resolver that decided: treat them as constants.
type Decision struct {
	Policy *Policy // nil: nobody does
	Why    string  // what of the policy asks for the machine, in words: "tag env=prod"
	Others []Other // the other policies that asked for it, in the order in which policies go
	// UnknownPolicy is the value of the onboarding tag where no policy has that name.
	UnknownPolicy string
}

// Other is a policy that asked for a machine and does not get it.
type Other struct {
	Policy *Policy
	Why    string // what of the policy asks for the machine
	Loss   Loss
	By     string // what stands against it: a region, an exclusion in words, or the name of the policy that goes first
	first  *Policy
}

// Loss is why a policy does not get a machine that it asked for.
type Loss string

// The reasons, in the order in which they are looked at.
const (
	LossNoOnboarding Loss = "noOnboarding" // the machine's tag names the policy, which takes no machines by tag
	LossRegion       Loss = "region"       // the machine is in none of the policy's regions
	LossExcluded     Loss = "excluded"     // the policy excludes it
	LossKind         Loss = "kind"         // an SLA policy goes before a schedule-based one
	LossPriority     Loss = "priority"     // another policy of the same kind goes first
)

// Resolver answers for one state of the documents. Safe for concurrent use.
type Resolver struct {
	policies []compiled // in the order in which they go
	claims   []claim    // by policy, then exclusions, then from the most exact to the least
	named    map[string]bool

	// Which claims look at what: indexes into claims. A condition stands where its first part does.
	bySubscription map[string][]int
	byGroup        map[string][]int
	byMachine      map[string][]int
	byRegion       map[string][]int
	byTag          map[holdfast.Tag][]int // names in lower case
}

// Policies returns all policies in the order in which they go: SLA policies first, then by priority, then by name.
func (r *Resolver) Policies() []*Policy {
	all := make([]*Policy, len(r.policies))
	for i := range r.policies {
		all[i] = &r.policies[i].Policy
	}
	return all
}

// Of decides about one machine.
func (r *Resolver) Of(vm holdfast.InventoryVM) Decision {
	t := traitsOf(&vm, vm.ID.Key())
	return r.decide(t, r.collect(t, nil))
}

// traits are what claims look at.
type traits struct {
	vm           *holdfast.InventoryVM
	key          string // of the id
	subscription string
	group        string // /subscriptions/S/resourcegroups/G
	region       string
}

func traitsOf(vm *holdfast.InventoryVM, key string) traits {
	t := traits{vm: vm, key: key, region: strings.ToLower(vm.Region)}
	if parts := strings.SplitN(t.key, "/", 6); len(parts) == 6 {
		t.subscription = parts[2]
		t.group = t.key[:len(t.key)-len(parts[5])-1]
	}
	return t
}

// has reports whether the machine bears a tag, whose name is in lower case.
func (t traits) has(tag holdfast.Tag) bool {
	for name, value := range t.vm.Tags {
		if value == tag.Value && strings.ToLower(name) == tag.Name {
			return true
		}
	}
	return false
}

// collect returns the claims that match the machine, in order, in the memory of hits.
func (r *Resolver) collect(t traits, hits []int) []int {
	hits = append(hits[:0], r.byRegion[t.region]...)
	hits = r.matching(t, hits, r.bySubscription[t.subscription])
	hits = r.matching(t, hits, r.byGroup[t.group])
	hits = r.matching(t, hits, r.byMachine[t.key])
	for name, value := range t.vm.Tags {
		hits = r.matching(t, hits, r.byTag[holdfast.Tag{Name: strings.ToLower(name), Value: value}])
	}
	slices.Sort(hits)
	return hits
}

// matching appends those of the claims of which all further parts match as well.
func (r *Resolver) matching(t traits, hits, claims []int) []int {
	for _, i := range claims {
		if r.claims[i].restMatches(t) {
			hits = append(hits, i)
		}
	}
	return hits
}

// decide goes through the matching claims of one policy after the other. The first policy that may have the machine gets it.
func (r *Resolver) decide(t traits, hits []int) Decision {
	var d Decision
	for from := 0; from < len(hits); {
		owner := r.claims[hits[from]].policy
		to := from + 1
		for to < len(hits) && r.claims[hits[to]].policy == owner {
			to++
		}
		if asked, ok := r.asked(t, hits[from:to]); ok {
			d.add(asked, len(hits)-from)
		}
		from = to
	}
	for name, value := range t.vm.Tags {
		if strings.EqualFold(name, holdfast.OnboardingTag) && !r.named[value] {
			d.UnknownPolicy = max(d.UnknownPolicy, value) // Azure has one tag of a name; other sources might not
		}
	}
	return d
}

// asked says what a policy wants of a machine, given its claims that match; false when it wants nothing. Loss stays empty
// when nothing in the policy itself stands against it.
func (r *Resolver) asked(t traits, hits []int) (Other, bool) {
	p := &r.policies[r.claims[hits[0]].policy]
	excluded := ""
	for _, i := range hits {
		c := &r.claims[i]
		if c.rank == rankExclusion {
			if excluded == "" {
				excluded = c.words
			}
			continue
		}
		o := Other{Policy: &p.Policy, Why: c.words}
		switch {
		case c.rank == rankNoOnboarding:
			o.Loss = LossNoOnboarding
		case !p.regions[t.region]:
			o.Loss, o.By = LossRegion, t.region
		case excluded != "":
			o.Loss, o.By = LossExcluded, excluded
		}
		return o, true
	}
	return Other{}, false
}

// add takes in the next policy that asks; at most so many are left, it included.
func (d *Decision) add(asked Other, left int) {
	switch {
	case asked.Loss != "":
	case d.Policy == nil:
		d.Policy, d.Why = asked.Policy, asked.Why
		return
	case d.Policy.Kind != asked.Policy.Kind:
		asked.Loss, asked.By, asked.first = LossKind, d.Policy.Name, d.Policy
	default:
		asked.Loss, asked.By, asked.first = LossPriority, d.Policy.Name, d.Policy
	}
	if d.Others == nil {
		d.Others = make([]Other, 0, left)
	}
	d.Others = append(d.Others, asked)
}
