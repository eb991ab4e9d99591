package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const scopeDocuments = `
kind: Repository
name: hot
url: file:///nowhere
encrypted: false
---
kind: SchedulePolicy
name: everything
sources: {regions: [westeurope], all: true, exclude: [{vm: %[1]s}]}
daily: {days: [every], snapshots: {hours: [7], keep: 4}, backups: {hours: [7], keep: 14 days, repository: hot}}
---
kind: SchedulePolicy
name: nobody
sources: {regions: [northeurope], include: [{tag: {name: env, value: prod}}, {vm: %[1]s}]}
daily: {days: [every], snapshots: {hours: [7], keep: 4}}
---
kind: SLATemplate
name: gold
snapshots: {window: 22:00-06:00, daily: {every: 30 minutes, keep: 2 days}}
---
kind: SLAPolicy
name: gold
slaTemplate: gold
sources: {regions: [westeurope], include: [{resourceGroup: /subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/VAULT}]}
`

// TestPolicyScope proves the contract of the command on a twin: who gets which machine and why, that a saved inventory says
// the same as the cloud, and that people read it as well.
func TestPolicyScope(t *testing.T) {
	t.Parallel()
	w := newWorld(t, badEstate)
	documents := filepath.Join(w.dir, "policies.yaml")
	must(t, os.WriteFile(documents, fmt.Appendf(nil, scopeDocuments, vmID("web-1")), 0o600))
	saved := filepath.Join(w.dir, "inventory.json")
	must(t, os.WriteFile(saved, w.run("inventory", "--json").out, 0o600))

	live := w.run("policy", "scope", "-f", documents, "--json")
	fromFile := w.run("policy", "scope", "-f", documents, "--inventory", saved, "--json")
	if live.code != 0 || string(live.out) != string(fromFile.out) {
		t.Fatalf("exit %d, the cloud says\n%s\nthe file\n%s\n%s", live.code, live.out, fromFile.out, live.errors)
	}
	result := mustHave(t, "policy scope", oneValue(t, live), "policies list vms list unprotected number")
	var told []string
	for _, p := range listOf(t, result, "policies", 3) {
		p := mustHave(t, "a policy", p, "name string kind string priority number enabled bool vms list disks number bytes number lost list missing list unfit list warnings list")
		told = append(told, fmt.Sprint(p["name"], " ", len(p["vms"].([]any)), " ", len(p["lost"].([]any)), " ", len(p["missing"].([]any)), " ", len(p["unfit"].([]any))))
	}
	if want := []string{"gold 1 0 0 0", "everything 5 1 0 4", "nobody 0 0 2 0"}; !slices.Equal(told, want) {
		t.Errorf("policies (machines, lost, missing, unfit) %q, want %q", told, want)
	}
	told = nil
	for _, vm := range listOf(t, result, "vms", 7) {
		vm := mustHave(t, "a machine", vm, "id string name string region string policy string why string others list unknownPolicy string")
		line := fmt.Sprint(vm["name"], " ", vm["policy"], ", ", vm["why"])
		for _, o := range vm["others"].([]any) {
			o := mustHave(t, "another policy", o, "policy string why string loss string because string")
			line += fmt.Sprint("; ", o["policy"], " ", o["loss"])
		}
		told = append(told, line)
	}
	for _, want := range []string{
		"vault-1 gold, resource group VAULT; everything kind", "deny-1 everything, all machines in westeurope", "web-1 , ; everything excluded; nobody region",
	} {
		if !slices.Contains(told, want) {
			t.Errorf("%q is not among %q", want, told)
		}
	}
	people := string(w.run("policy", "scope", "-f", documents).out)
	for _, part := range []string{
		"gold (SLA, priority 1): 1 machine", "the disk deny-1-os may not be exported", "Not protected: 1 machine",
		"everything (all machines in westeurope): it excludes machine web-1", "without effect: machine " + vmID("web-1") + ", which matches machines in other regions alone",
		"7 machines: 6 protected, 1 not",
	} {
		if !strings.Contains(people, part) {
			t.Errorf("people do not read %q in\n%s", part, people)
		}
	}
	w.mustRefuse(refusal{2, "invalid", "inventory", []string{"exclude each other"}}, "policy", "scope", "-f", documents, "--inventory", saved, "--azure", w.twin.Endpoints().AzureFile)
	w.mustRefuse(refusal{2, "invalid", "", []string{"policies.yaml:2:1", "not JSON"}}, "policy", "scope", "-f", documents, "--inventory", documents)
}
