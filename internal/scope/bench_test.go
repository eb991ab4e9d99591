package scope_test

import (
	"fmt"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/scope"
)

// BenchmarkResolve decides about 100,000 machines in 400 groups, with 50 policies. In the usual estate a few policies ask for a
// machine: one by its group, some by its tags, and one for the rest. In the worst one every policy asks for every machine.
func BenchmarkResolve(b *testing.B) {
	const machines, policies = 100_000, 50
	var inventory holdfast.Inventory
	for i := range machines {
		inventory.VMs = append(inventory.VMs, machine(fmt.Sprintf("Group-%d", i%400), fmt.Sprintf("vm-%d", i),
			"Env", fmt.Sprintf("env-%d", i%5), "team", fmt.Sprintf("team-%d", i%60), "tier", fmt.Sprint(i%3), "costCentre", fmt.Sprint(i%1000)))
	}
	var usual, worst []holdfast.PolicyCommon
	for i := range policies {
		sources := holdfast.Sources{OnboardByTag: true, Exclude: []holdfast.Selector{{Tag: tag("costCentre", fmt.Sprint(i))}}}
		for j := range 8 {
			sources.Include = append(sources.Include, holdfast.Selector{ResourceGroup: group(fmt.Sprintf("group-%d", 8*i+j))},
				holdfast.Selector{VM: machine(fmt.Sprintf("group-%d", i), fmt.Sprintf("vm-%d", 1000*i+j)).ID})
		}
		sources.Conditions = []holdfast.Condition{{Name: "tier", Tags: []holdfast.Tag{{Name: "team", Value: fmt.Sprintf("team-%d", i)}, {Name: "tier", Value: "1"}}}}
		usual = append(usual, policy(fmt.Sprintf("policy %d", i), i+1, sources))
		worst = append(worst, policy(fmt.Sprintf("policy %d", i), i+1, holdfast.Sources{All: true}))
	}
	usual[policies-1].Sources.All = true
	for name, documents := range map[string]holdfast.Documents{"usual": schedules(usual...), "worst": schedules(worst...)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				resolution := scope.New(documents).Resolve(inventory)
				if len(resolution.Unprotected()) > machines/100 {
					b.Fatalf("%d machines are not protected", len(resolution.Unprotected()))
				}
			}
			b.ReportMetric(float64(machines*b.N)/b.Elapsed().Seconds(), "machines/s")
		})
	}
}
