package scope_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/scope"
)

// The worlds of these tests are small, so that everything meets everything.
var (
	smallSubscriptions = []string{"Sub-A", "sub-a", "sub-b"}
	smallNames         = []string{"one", "One", "two"}
	smallRegions       = []string{"north", "south", "east"}
	smallTagNames      = []string{"env", "Env", "tier", holdfast.OnboardingTag, "Holdfast-Policy"}
	smallTagValues     = []string{"a", "A", "p0", "p1", "p2", "p3", "P1"}
)

func drawGroup(t *rapid.T) holdfast.ResourceID {
	return holdfast.ResourceID("/subscriptions/" + rapid.SampledFrom(smallSubscriptions).Draw(t, "subscription") +
		rapid.SampledFrom([]string{"/resourceGroups/", "/resourcegroups/"}).Draw(t, "spelling") + rapid.SampledFrom(smallNames).Draw(t, "group"))
}

func drawID(t *rapid.T) holdfast.ResourceID {
	return drawGroup(t) + "/providers/Microsoft.Compute/virtualMachines/" + holdfast.ResourceID(rapid.SampledFrom(smallNames).Draw(t, "name"))
}

func drawTag(t *rapid.T) holdfast.Tag {
	return holdfast.Tag{Name: rapid.SampledFrom(smallTagNames).Draw(t, "tag"), Value: rapid.SampledFrom(smallTagValues).Draw(t, "value")}
}

func drawTags(t *rapid.T) []holdfast.Tag {
	return rapid.SliceOfN(rapid.Custom(drawTag), 0, 3).Draw(t, "tags")
}

func drawVM(t *rapid.T) holdfast.InventoryVM {
	vm := holdfast.InventoryVM{ID: drawID(t), Region: rapid.SampledFrom(smallRegions).Draw(t, "region"), Tags: map[string]string{}}
	given := map[string]bool{}
	for _, tag := range drawTags(t) {
		if !given[strings.ToLower(tag.Name)] {
			given[strings.ToLower(tag.Name)], vm.Tags[tag.Name] = true, tag.Value
		}
	}
	return vm
}

func drawInventory(t *rapid.T) holdfast.Inventory {
	vms := rapid.SliceOfNDistinct(rapid.Custom(drawVM), 0, 12, func(vm holdfast.InventoryVM) string { return vm.ID.Key() }).Draw(t, "machines")
	return holdfast.Inventory{VMs: vms}
}

func drawSelector(t *rapid.T) holdfast.Selector {
	switch rapid.IntRange(0, 3).Draw(t, "selector") {
	case 0:
		return holdfast.Selector{Subscription: rapid.SampledFrom(smallSubscriptions).Draw(t, "subscription")}
	case 1:
		return holdfast.Selector{ResourceGroup: drawGroup(t)}
	case 2:
		return holdfast.Selector{VM: drawID(t)}
	}
	tag := drawTag(t)
	return holdfast.Selector{Tag: &tag}
}

func drawCondition(t *rapid.T) holdfast.Condition {
	c := holdfast.Condition{Name: rapid.SampledFrom(smallNames).Draw(t, "condition"), Tags: rapid.SliceOfN(rapid.Custom(drawTag), 1, 2).Draw(t, "tags")}
	switch rapid.IntRange(0, 2).Draw(t, "within") {
	case 1:
		c.Subscription = rapid.SampledFrom(smallSubscriptions).Draw(t, "subscription")
	case 2:
		c.ResourceGroup = drawGroup(t)
	}
	return c
}

func drawPolicy(t *rapid.T, name string, priority int) holdfast.PolicyCommon {
	p := holdfast.PolicyCommon{Name: name, Priority: priority, Enabled: rapid.Bool().Draw(t, "enabled"), Sources: holdfast.Sources{
		Regions: rapid.SliceOfNDistinct(rapid.SampledFrom(smallRegions), 1, 2, rapid.ID[string]).Draw(t, "regions"),
		All:     rapid.IntRange(0, 5).Draw(t, "all") == 0, OnboardByTag: rapid.Bool().Draw(t, "onboard"),
		Include:    rapid.SliceOfN(rapid.Custom(drawSelector), 0, 2).Draw(t, "include"),
		Conditions: rapid.SliceOfN(rapid.Custom(drawCondition), 0, 2).Draw(t, "conditions"),
		Exclude:    rapid.SliceOfN(rapid.Custom(drawSelector), 0, 1).Draw(t, "exclude"),
	}}
	return p
}

func drawDocuments(t *rapid.T) holdfast.Documents {
	n := rapid.IntRange(0, 4).Draw(t, "policies")
	priorities := rapid.Permutation([]int{1, 2, 3, 4}).Draw(t, "priorities")
	var d holdfast.Documents
	for i := range n {
		p := drawPolicy(t, fmt.Sprintf("p%d", i), priorities[i])
		if rapid.Bool().Draw(t, "sla") {
			d = slas(d, p)
		} else {
			d.SchedulePolicies = append(d.SchedulePolicies, holdfast.SchedulePolicy{PolicyCommon: p})
		}
	}
	return d
}

// The oracle: the rules of doc/policies.md one by one, without any index.

func oracleTag(vm holdfast.InventoryVM, tag holdfast.Tag) bool {
	for name, value := range vm.Tags {
		if strings.EqualFold(name, tag.Name) && value == tag.Value {
			return true
		}
	}
	return false
}

func oracleGroup(vm holdfast.InventoryVM, group holdfast.ResourceID) bool {
	return strings.EqualFold(vm.ID.Subscription(), group.Subscription()) && strings.EqualFold(vm.ID.ResourceGroup(), group.ResourceGroup())
}

func oracleSelects(s holdfast.Selector, vm holdfast.InventoryVM) bool {
	switch {
	case s.VM != "":
		return s.VM.Equal(vm.ID)
	case s.Tag != nil:
		return oracleTag(vm, *s.Tag)
	case s.ResourceGroup != "":
		return oracleGroup(vm, s.ResourceGroup)
	}
	return strings.EqualFold(s.Subscription, vm.ID.Subscription())
}

func oracleMeets(c holdfast.Condition, vm holdfast.InventoryVM) bool {
	if c.Subscription != "" && !strings.EqualFold(c.Subscription, vm.ID.Subscription()) || c.ResourceGroup != "" && !oracleGroup(vm, c.ResourceGroup) {
		return false
	}
	return !slices.ContainsFunc(c.Tags, func(tag holdfast.Tag) bool { return !oracleTag(vm, tag) })
}

func oracleIncludes(p holdfast.PolicyCommon, vm holdfast.InventoryVM) bool {
	return p.Sources.All ||
		slices.ContainsFunc(p.Sources.Include, func(s holdfast.Selector) bool { return oracleSelects(s, vm) }) ||
		slices.ContainsFunc(p.Sources.Conditions, func(c holdfast.Condition) bool { return oracleMeets(c, vm) }) ||
		p.Sources.OnboardByTag && oracleTag(vm, holdfast.Tag{Name: holdfast.OnboardingTag, Value: p.Name})
}

func oracleExcludes(p holdfast.PolicyCommon, vm holdfast.InventoryVM) bool {
	return slices.ContainsFunc(p.Sources.Exclude, func(s holdfast.Selector) bool { return oracleSelects(s, vm) })
}

// oracle returns the name of the policy that a machine gets, and of each that asked besides with the reason.
func oracle(d holdfast.Documents, vm holdfast.InventoryVM) (winner string, others []string) {
	type contender struct {
		holdfast.PolicyCommon
		kind holdfast.PolicyKind
	}
	var all []contender
	for _, p := range d.SLAPolicies {
		all = append(all, contender{p.PolicyCommon, holdfast.PolicySLA})
	}
	for _, p := range d.SchedulePolicies {
		all = append(all, contender{p.PolicyCommon, holdfast.PolicySchedule})
	}
	slices.SortStableFunc(all, func(a, b contender) int {
		if a.kind != b.kind {
			return map[bool]int{true: -1, false: 1}[a.kind == holdfast.PolicySLA]
		}
		return cmp.Compare(a.Priority, b.Priority)
	})
	var first contender
	for _, p := range all {
		asked := oracleTag(vm, holdfast.Tag{Name: holdfast.OnboardingTag, Value: p.Name})
		loss := scope.Loss("")
		switch {
		case !oracleIncludes(p.PolicyCommon, vm) && asked:
			loss = scope.LossNoOnboarding
		case !oracleIncludes(p.PolicyCommon, vm):
			continue
		case !slices.Contains(p.Sources.Regions, vm.Region) && p.Sources.All && !oracleIncludes(without(p.PolicyCommon), vm):
			if !asked {
				continue // all machines means all in its regions
			}
			loss = scope.LossNoOnboarding
		case !slices.Contains(p.Sources.Regions, vm.Region):
			loss = scope.LossRegion
		case oracleExcludes(p.PolicyCommon, vm):
			loss = scope.LossExcluded
		case winner == "":
			winner, first = p.Name, p
			continue
		case first.kind != p.kind:
			loss = scope.LossKind
		default:
			loss = scope.LossPriority
		}
		others = append(others, p.Name+" "+string(loss))
	}
	return winner, others
}

// without returns the policy without its "all".
func without(p holdfast.PolicyCommon) holdfast.PolicyCommon {
	p.Sources.All = false
	return p
}

// decided is a decision in the oracle's words.
func decided(d scope.Decision) (winner string, others []string) {
	if d.Policy != nil {
		winner = d.Policy.Name
	}
	for _, o := range d.Others {
		others = append(others, o.Policy.Name+" "+string(o.Loss))
	}
	return winner, others
}

// TestResolve_Oracle holds every decision against the rules applied one by one, and the two directions of a resolution
// against each other: each machine is with the policy that it names, and with no other one.
func TestResolve_AgreesWithTheRulesOneByOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		documents, inventory := drawDocuments(t), drawInventory(t)
		r := scope.New(documents)
		resolution := r.Resolve(inventory)
		holders := map[holdfast.ResourceID][]string{}
		for _, p := range resolution.Policies {
			for _, vm := range p.VMs {
				holders[vm.ID] = append(holders[vm.ID], p.Policy.Name)
			}
		}
		if len(resolution.Machines) != len(inventory.VMs) {
			t.Fatalf("%d machines of %d", len(resolution.Machines), len(inventory.VMs))
		}
		for _, m := range resolution.Machines {
			winner, others := oracle(documents, *m.VM)
			got, gotOthers := decided(m.Decision)
			if got != winner || !slices.Equal(gotOthers, others) {
				t.Fatalf("%s in %s with %v: %q and %q, want %q and %q", m.VM.ID, m.VM.Region, m.VM.Tags, got, gotOthers, winner, others)
			}
			if fmt.Sprint(told(r.Of(*m.VM))) != fmt.Sprint(told(m.Decision)) {
				t.Fatalf("asked alone: %q, among all: %q", told(r.Of(*m.VM)), told(m.Decision))
			}
			if got := holders[m.VM.ID]; winner == "" && len(got) > 0 || winner != "" && !slices.Equal(got, []string{winner}) {
				t.Fatalf("%s is held by %q and goes to %q", m.VM.ID, got, winner)
			}
		}
	})
}

// TestResolve_ExcludedIsNeverTaken: whatever includes it, by whatever priority.
func TestResolve_ExcludedAndOutsideAreNeverTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		documents, inventory := drawDocuments(t), drawInventory(t)
		for _, p := range scope.New(documents).Resolve(inventory).Policies {
			var source holdfast.PolicyCommon
			for _, d := range documents.SchedulePolicies {
				if d.Name == p.Policy.Name {
					source = d.PolicyCommon
				}
			}
			for _, d := range documents.SLAPolicies {
				if d.Name == p.Policy.Name {
					source = d.PolicyCommon
				}
			}
			for _, vm := range p.VMs {
				if oracleExcludes(source, *vm) || !slices.Contains(source.Sources.Regions, vm.Region) {
					t.Fatalf("%s has %s, which it excludes or which is in none of its regions", p.Policy.Name, vm.ID)
				}
			}
		}
	})
}

// TestResolve_ALaterPolicyTakesNothingAway: a policy that goes last gets what nobody has, and changes nothing else.
func TestResolve_LastPolicyTakesNothingAway(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		documents, inventory := drawDocuments(t), drawInventory(t)
		before := scope.New(documents).Resolve(inventory)
		documents.SchedulePolicies = append(documents.SchedulePolicies, holdfast.SchedulePolicy{PolicyCommon: drawPolicy(t, "last", 99)})
		after := scope.New(documents).Resolve(inventory)
		for i, m := range before.Machines {
			if m.Policy != nil && (after.Machines[i].Policy.Name != m.Policy.Name || after.Machines[i].Why != m.Why) {
				t.Fatalf("%s went from %s to %s", m.VM.ID, m.Policy.Name, after.Machines[i].Policy.Name)
			}
		}
	})
}

// TestResolve_OrderDoesNotMatter: neither of the documents, nor of what they list, nor of the machines.
func TestResolve_OrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		documents, inventory := drawDocuments(t), drawInventory(t)
		shuffled, mixed := documents, holdfast.Inventory{VMs: shuffle(t, inventory.VMs)}
		shuffled.SchedulePolicies, shuffled.SLAPolicies = shuffle(t, documents.SchedulePolicies), shuffle(t, documents.SLAPolicies)
		for i := range shuffled.SchedulePolicies {
			s := &shuffled.SchedulePolicies[i].Sources
			s.Include, s.Conditions, s.Exclude, s.Regions = shuffle(t, s.Include), shuffle(t, s.Conditions), shuffle(t, s.Exclude), shuffle(t, s.Regions)
		}
		if a, b := all(scope.New(documents).Resolve(inventory)), all(scope.New(shuffled).Resolve(mixed)); a != b {
			t.Fatalf("in one order\n%s\nin another\n%s", a, b)
		}
	})
}

func shuffle[T any](t *rapid.T, list []T) []T {
	if len(list) == 0 {
		return nil
	}
	return rapid.Permutation(list).Draw(t, "order")
}

// all is a resolution in words.
func all(r scope.Resolution) string {
	var b strings.Builder
	for _, m := range r.Machines {
		fmt.Fprintln(&b, m.VM.ID, strings.Join(told(m.Decision), "; "), m.UnknownPolicy)
	}
	for _, p := range r.Policies {
		fmt.Fprintln(&b, strings.Join(reach(p), "; "))
	}
	return b.String()
}
