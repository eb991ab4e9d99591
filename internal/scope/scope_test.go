package scope_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/scope"
)

const (
	subscription = "11111111-1111-1111-1111-AAAAAAAAAAAA"
	other        = "99999999-9999-9999-9999-999999999999"
)

// machine makes a machine of westeurope; tags are NAME, VALUE, NAME, VALUE …
func machine(group, name string, tags ...string) holdfast.InventoryVM {
	vm := holdfast.InventoryVM{
		ID: holdfast.NewResourceID(subscription, group, "Microsoft.Compute/virtualMachines", name), Name: name, Region: "westeurope",
		Tags: map[string]string{}, Disks: []holdfast.InventoryDisk{{LUN: holdfast.OSDisk, Name: name + "-os", SizeBytes: 1 << 30}},
	}
	for i := 0; i < len(tags); i += 2 {
		vm.Tags[tags[i]] = tags[i+1]
	}
	return vm
}

func in(region string, vm holdfast.InventoryVM) holdfast.InventoryVM {
	vm.Region = region
	return vm
}

func group(name string) holdfast.ResourceID {
	return holdfast.ResourceID("/subscriptions/" + subscription + "/resourceGroups/" + name)
}

func tag(name, value string) *holdfast.Tag { return &holdfast.Tag{Name: name, Value: value} }

// policy makes an enabled policy for westeurope.
func policy(name string, priority int, sources holdfast.Sources) holdfast.PolicyCommon {
	if sources.Regions == nil {
		sources.Regions = []string{"westeurope"}
	}
	return holdfast.PolicyCommon{Name: name, Priority: priority, Enabled: true, Sources: sources}
}

func schedules(policies ...holdfast.PolicyCommon) holdfast.Documents {
	var d holdfast.Documents
	for _, p := range policies {
		d.SchedulePolicies = append(d.SchedulePolicies, holdfast.SchedulePolicy{PolicyCommon: p})
	}
	return d
}

func slas(d holdfast.Documents, policies ...holdfast.PolicyCommon) holdfast.Documents {
	for _, p := range policies {
		d.SLAPolicies = append(d.SLAPolicies, holdfast.SLAPolicy{PolicyCommon: p})
	}
	return d
}

// told is a decision in words, the policy first: "gold: tag env=prod", then "silver: all machines in westeurope, but …".
func told(d scope.Decision) []string {
	first := "nobody"
	if d.Policy != nil {
		first = d.Policy.Name + ": " + d.Why
	}
	lines := []string{first}
	for _, o := range d.Others {
		lines = append(lines, fmt.Sprintf("%s: %s, but %s", o.Policy.Name, o.Why, o.Because()))
	}
	return lines
}

// TestOf_Selectors has a row for each way in which sources pick a machine (reference §6.2), and for each that looks like one.
func TestOf_Selectors(t *testing.T) {
	include := func(s ...holdfast.Selector) holdfast.Sources { return holdfast.Sources{Include: s} }
	web := machine("Shop", "Web-1", "Env", "prod", "tier", "1")
	for _, c := range []struct {
		name    string
		sources holdfast.Sources
		vm      holdfast.InventoryVM
		want    string // why; "" when the policy does not take it
	}{
		{"all", holdfast.Sources{All: true}, web, "all machines in westeurope"},
		{"nothing", holdfast.Sources{}, web, ""},
		{"subscription", include(holdfast.Selector{Subscription: "11111111-1111-1111-1111-aaaaaaaaaaaa"}), web, "subscription 11111111-1111-1111-1111-aaaaaaaaaaaa"},
		{"another subscription", include(holdfast.Selector{Subscription: other}), web, ""},
		{"group, in another case", include(holdfast.Selector{ResourceGroup: group("sHOP")}), web, "resource group sHOP"},
		{"group whose name begins so", include(holdfast.Selector{ResourceGroup: group("sho")}), web, ""},
		{"group of that name elsewhere", include(holdfast.Selector{ResourceGroup: "/subscriptions/" + other + "/resourceGroups/shop"}), web, ""},
		{"machine, in another case", include(holdfast.Selector{VM: machine("SHOP", "WEB-1").ID}), web, "machine WEB-1"},
		{"another machine", include(holdfast.Selector{VM: machine("shop", "web-2").ID}), web, ""},
		{"tag, name in another case", include(holdfast.Selector{Tag: tag("ENV", "prod")}), web, "tag ENV=prod"},
		{"tag, value in another case", include(holdfast.Selector{Tag: tag("env", "Prod")}), web, ""},
		{"tag of another value", include(holdfast.Selector{Tag: tag("env", "test")}), web, ""},
		{"empty selector", include(holdfast.Selector{}), web, ""},
		{"one of several", include(holdfast.Selector{Tag: tag("env", "test")}, holdfast.Selector{ResourceGroup: group("shop")}), web, "resource group shop"},
		{"the most exact of several", include(holdfast.Selector{Subscription: subscription}, holdfast.Selector{VM: web.ID}, holdfast.Selector{Tag: tag("env", "prod")}), web, "machine Web-1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := scope.New(schedules(policy("p", 1, c.sources))).Of(c.vm)
			if got := d.Policy != nil; got != (c.want != "") || d.Why != c.want {
				t.Errorf("protected: %t, why %q; want %q", got, d.Why, c.want)
			}
		})
	}
}

// TestOf_Conditions: all parts of a condition, any of the conditions or single items (reference §6.2).
func TestOf_Conditions(t *testing.T) {
	gold := holdfast.Condition{Name: "gold", ResourceGroup: group("shop"), Tags: []holdfast.Tag{{Name: "Tier", Value: "1"}}}
	red := holdfast.Condition{Name: "red", Tags: []holdfast.Tag{{Name: "env", Value: "prod"}, {Name: "colour", Value: "red"}}}
	paid := holdfast.Condition{Name: "paid", Subscription: subscription, Tags: []holdfast.Tag{{Name: "paid", Value: "yes"}}}
	r := scope.New(schedules(policy("p", 1, holdfast.Sources{
		Conditions: []holdfast.Condition{gold, red, paid, {Name: "empty"}}, Include: []holdfast.Selector{{VM: machine("lab", "single").ID}},
	})))
	elsewhere := machine("shop", "e", "paid", "yes")
	elsewhere.ID = holdfast.NewResourceID(other, "shop", "Microsoft.Compute/virtualMachines", "e")
	for _, c := range []struct {
		vm   holdfast.InventoryVM
		want string
	}{
		{machine("shop", "a", "tier", "1"), "condition gold: resource group shop and tag Tier=1"},
		{machine("shop", "b", "tier", "2"), ""},
		{machine("lab", "c", "tier", "1"), ""},
		{machine("lab", "d", "env", "prod", "Colour", "red"), "condition red: tag env=prod and tag colour=red"},
		{machine("lab", "d", "env", "prod"), ""},
		{machine("lab", "d", "colour", "red"), ""},
		{machine("lab", "f", "paid", "yes"), "condition paid: subscription " + subscription + " and tag paid=yes"},
		{elsewhere, ""},
		{machine("lab", "single"), "machine single"},
		{machine("shop", "a", "tier", "1", "env", "prod", "colour", "red"), "condition gold: resource group shop and tag Tier=1"},
	} {
		if got := r.Of(c.vm).Why; got != c.want {
			t.Errorf("%s %v: %q, want %q", c.vm.Name, c.vm.Tags, got, c.want)
		}
	}
}

// TestOf_Others: which policy goes first, and what the others are told (reference §1 and §6.2; "Sources and priority").
func TestOf_Others(t *testing.T) {
	all := holdfast.Sources{All: true}
	byTag := holdfast.Sources{Include: []holdfast.Selector{{Tag: tag("env", "prod")}}}
	without := func(s holdfast.Sources, exclude ...holdfast.Selector) holdfast.Sources {
		s.Exclude = exclude
		return s
	}
	north := func(s holdfast.Sources) holdfast.Sources {
		s.Regions = []string{"northeurope", "NorwayEast"}
		return s
	}
	disabled := policy("off", 1, all)
	disabled.Enabled = false
	web := machine("shop", "web-1", "env", "prod", "backup", "no")
	for _, c := range []struct {
		name      string
		documents holdfast.Documents
		vm        holdfast.InventoryVM
		want      []string
	}{
		{"no policy", holdfast.Documents{}, web, []string{"nobody"}},
		{
			"lower number first", schedules(policy("second", 2, byTag), policy("first", 1, all)), web,
			[]string{"first: all machines in westeurope", "second: tag env=prod, but first goes first: priority 1 before 2"},
		},
		{
			"SLA before schedule, whatever the numbers", slas(schedules(policy("schedule", 1, byTag)), policy("sla", 7, all)), web,
			[]string{"sla: all machines in westeurope", "schedule: tag env=prod, but the SLA policy sla goes first"},
		},
		{
			"equal numbers go by name", schedules(policy("b", 1, all), policy("a", 1, all)), web,
			[]string{"a: all machines in westeurope", "b: all machines in westeurope, but a goes first, by its name"},
		},
		{
			"exclusion by machine beats the same machine included",
			schedules(policy("p", 1, without(holdfast.Sources{Include: []holdfast.Selector{{VM: web.ID}}}, holdfast.Selector{VM: web.ID}))), web,
			[]string{"nobody", "p: machine web-1, but it excludes machine web-1"},
		},
		{
			"exclusion by tag hands the machine on",
			schedules(policy("first", 1, without(all, holdfast.Selector{Tag: tag("BACKUP", "no")})), policy("second", 2, byTag)), web,
			[]string{"second: tag env=prod", "first: all machines in westeurope, but it excludes tag BACKUP=no"},
		},
		{"exclusion of what was not asked for says nothing", schedules(policy("p", 1, without(holdfast.Sources{}, holdfast.Selector{VM: web.ID}))), web, []string{"nobody"}},
		{
			"no region, no protection, not even by tag", schedules(policy("p", 1, north(byTag))), web,
			[]string{"nobody", "p: tag env=prod, but westeurope is none of its regions"},
		},
		{"all means all in its regions", schedules(policy("p", 1, north(all))), web, []string{"nobody"}},
		{"regions in any case", schedules(policy("p", 1, north(all))), in("norwayeast", web), []string{"p: all machines in norwayeast"}},
		{
			"disabled policies hold their machines", schedules(disabled, policy("on", 2, all)), web,
			[]string{"off: all machines in westeurope", "on: all machines in westeurope, but off goes first: priority 1 before 2"},
		},
		{
			"a policy that cannot have it stands in nobody's way", slas(schedules(policy("schedule", 1, all)), policy("sla", 1, north(byTag))), web,
			[]string{"schedule: all machines in westeurope", "sla: tag env=prod, but westeurope is none of its regions"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := told(scope.New(c.documents).Of(c.vm)); !slices.Equal(got, c.want) {
				t.Errorf("%q\nwant %q", got, c.want)
			}
		})
	}
}

// TestOf_Onboarding: a tag on the machine asks for a policy, where the policy allows it ("Sources and priority").
func TestOf_Onboarding(t *testing.T) {
	open := policy("Gold", 2, holdfast.Sources{OnboardByTag: true})
	closed := policy("closed", 3, holdfast.Sources{})
	strict := policy("strict", 4, holdfast.Sources{OnboardByTag: true, Exclude: []holdfast.Selector{{Tag: tag("env", "test")}}})
	both := policy("both", 5, holdfast.Sources{OnboardByTag: true, All: true, Regions: []string{"northeurope"}})
	r := scope.New(schedules(open, closed, strict, both, policy("first", 1, holdfast.Sources{Include: []holdfast.Selector{{ResourceGroup: group("first")}}})))
	asking := func(group string, tags ...string) holdfast.InventoryVM { return machine(group, "vm", tags...) }
	for _, c := range []struct {
		name    string
		vm      holdfast.InventoryVM
		want    []string
		unknown string
	}{
		{"name of the tag in another case", asking("shop", "Holdfast-Policy", "Gold"), []string{"Gold: onboarding tag holdfast-policy=Gold"}, ""},
		{"name of the policy in another case", asking("shop", "holdfast-policy", "gold"), []string{"nobody"}, "gold"},
		{"no such policy", asking("shop", "holdfast-policy", "platinum"), []string{"nobody"}, "platinum"},
		{"not allowed", asking("shop", "holdfast-policy", "closed"), []string{"nobody", "closed: onboarding tag holdfast-policy=closed, but it takes no machines by their tag"}, ""},
		{"excluded", asking("shop", "holdfast-policy", "strict", "env", "test"), []string{"nobody", "strict: onboarding tag holdfast-policy=strict, but it excludes tag env=test"}, ""},
		{"outside", asking("shop", "holdfast-policy", "both"), []string{"nobody", "both: onboarding tag holdfast-policy=both, but westeurope is none of its regions"}, ""},
		{"the tag says more than all", in("northeurope", asking("shop", "holdfast-policy", "both")), []string{"both: onboarding tag holdfast-policy=both"}, ""},
		{
			"the tag changes no order", asking("first", "holdfast-policy", "Gold"),
			[]string{"first: resource group first", "Gold: onboarding tag holdfast-policy=Gold, but first goes first: priority 1 before 2"},
			"",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := r.Of(c.vm)
			if got := told(d); !slices.Equal(got, c.want) || d.UnknownPolicy != c.unknown {
				t.Errorf("%q, unknown %q\nwant %q, unknown %q", got, d.UnknownPolicy, c.want, c.unknown)
			}
		})
	}
}
