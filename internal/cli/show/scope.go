package show

import (
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/cli"
	"github.com/holdfast-backup/holdfast/internal/scope"
)

// Scope is the result of `policy scope`.
type Scope struct {
	Policies    []scopePolicy  `json:"policies"`
	VMs         []scopeMachine `json:"vms"`
	Unprotected int            `json:"unprotected"`
}

type scopePolicy struct {
	Name     string                `json:"name"`
	Kind     holdfast.PolicyKind   `json:"kind"`
	Priority int                   `json:"priority"`
	Enabled  bool                  `json:"enabled"`
	VMs      []holdfast.ResourceID `json:"vms"`
	Disks    int                   `json:"disks"`
	Bytes    int64                 `json:"bytes"`
	Lost     []scopeLost           `json:"lost"`
	Missing  []scopeMissing        `json:"missing"`
	Unfit    []scopeUnfit          `json:"unfit"`
	Warnings []scopeWarning        `json:"warnings"`
}

type scopeLost struct {
	VM holdfast.ResourceID `json:"vm"`
	To string              `json:"to"`
}

type scopeMissing struct {
	Type          scope.ItemType `json:"type"`
	Name          string         `json:"name"`
	Exclusion     bool           `json:"exclusion"`
	ElsewhereOnly bool           `json:"elsewhereOnly"`
}

type scopeUnfit struct {
	VM   holdfast.ResourceID `json:"vm"`
	Disk string              `json:"disk"`
	Why  string              `json:"why"`
}

type scopeWarning struct {
	Code scope.WarningCode `json:"code"`
	Text string            `json:"text"`
}

type scopeMachine struct {
	ID            holdfast.ResourceID `json:"id"`
	Name          string              `json:"name"`
	Region        string              `json:"region"`
	Policy        string              `json:"policy"`
	Why           string              `json:"why"`
	Others        []scopeOther        `json:"others"`
	UnknownPolicy string              `json:"unknownPolicy"`
}

type scopeOther struct {
	Policy  string     `json:"policy"`
	Why     string     `json:"why"`
	Loss    scope.Loss `json:"loss"`
	Because string     `json:"because"`
}

// NewScope makes the result of what scope resolved.
func NewScope(r scope.Resolution) Scope {
	result := Scope{Policies: []scopePolicy{}, VMs: []scopeMachine{}, Unprotected: len(r.Unprotected())}
	for _, p := range r.Policies {
		result.Policies = append(result.Policies, scopePolicyOf(p))
	}
	for _, m := range r.Machines {
		row := scopeMachine{ID: m.VM.ID, Name: m.VM.Name, Region: m.VM.Region, Why: m.Why, Others: []scopeOther{}, UnknownPolicy: m.UnknownPolicy}
		if m.Policy != nil {
			row.Policy = m.Policy.Name
		}
		for _, o := range m.Others {
			row.Others = append(row.Others, scopeOther{Policy: o.Policy.Name, Why: o.Why, Loss: o.Loss, Because: o.Because()})
		}
		result.VMs = append(result.VMs, row)
	}
	return result
}

func scopePolicyOf(p scope.Reach) scopePolicy {
	row := scopePolicy{
		Name: p.Policy.Name, Kind: p.Policy.Kind, Priority: p.Policy.Priority, Enabled: p.Policy.Enabled, VMs: []holdfast.ResourceID{}, Disks: p.Disks,
		Bytes: p.Bytes, Lost: []scopeLost{}, Missing: []scopeMissing{}, Unfit: []scopeUnfit{}, Warnings: []scopeWarning{},
	}
	for _, vm := range p.VMs {
		row.VMs = append(row.VMs, vm.ID)
	}
	for _, l := range p.Lost {
		row.Lost = append(row.Lost, scopeLost{VM: l.VM.ID, To: l.To.Name})
	}
	for _, m := range p.Missing {
		row.Missing = append(row.Missing, scopeMissing{Type: m.Type, Name: m.Name, Exclusion: m.Exclusion, ElsewhereOnly: m.ElsewhereOnly})
	}
	for _, u := range p.Unfit {
		unfit := scopeUnfit{VM: u.VM.ID, Why: u.Why()}
		if u.Disk != nil {
			unfit.Disk = u.Disk.Name
		}
		row.Unfit = append(row.Unfit, unfit)
	}
	for _, w := range p.Warnings {
		row.Warnings = append(row.Warnings, scopeWarning{Code: w.Code, Text: w.Text})
	}
	return row
}

// TellScope tells people: the machines of each policy, those of none, and the sum.
func TellScope(w io.Writer, r scope.Resolution) error {
	decisions := make(map[*holdfast.InventoryVM]scope.Decision, len(r.Machines))
	for _, m := range r.Machines {
		decisions[m.VM] = m.Decision
	}
	for _, p := range r.Policies {
		if err := tellReach(w, p, decisions); err != nil {
			return err
		}
	}
	unprotected := r.Unprotected()
	if err := tellUnprotected(w, unprotected); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s: %d protected, %d not\n", cli.Count(len(r.Machines), "machine"), len(r.Machines)-len(unprotected), len(unprotected))
	return err
}

func tellReach(w io.Writer, p scope.Reach, decisions map[*holdfast.InventoryVM]scope.Decision) error {
	kind := "schedule"
	if p.Policy.Kind == holdfast.PolicySLA {
		kind = "SLA"
	}
	lines := []string{fmt.Sprintf("%s (%s, priority %d): %s, %s, %s", p.Policy.Name, kind, p.Policy.Priority, cli.Count(len(p.VMs), "machine"), cli.Count(p.Disks, "disk"), cli.Bytes(p.Bytes))}
	for _, warning := range p.Warnings {
		if warning.Code != scope.WarnMissing && warning.Code != scope.WarnUnfitDisk { // told one by one
			lines = append(lines, "  warning: "+warning.Text)
		}
	}
	for _, m := range p.Missing {
		lines = append(lines, "  without effect: "+missingText(m))
	}
	for _, u := range p.Unfit {
		lines = append(lines, "  not to be backed up: "+u.VM.Name+": "+unfitText(u))
	}
	if len(p.Lost) > 0 {
		lines = append(lines, fmt.Sprintf("  passes by %s for which other policies go first", cli.Count(len(p.Lost), "machine")))
	}
	if err := cli.Lines(w, lines); err != nil {
		return err
	}
	if len(p.VMs) > 0 {
		var rows [][]string
		for _, vm := range p.VMs {
			d := decisions[vm]
			rows = append(rows, append(machineCells(vm), d.Why, strings.Join(otherNames(d), ", ")))
		}
		if err := cli.Table(w, []string{"  NAME", "GROUP", "REGION", "WHY", "ALSO ASKED BY"}, rows); err != nil {
			return err
		}
	}
	return cli.Lines(w, []string{""})
}

// machineCells are the first columns of a machine.
func machineCells(vm *holdfast.InventoryVM) []string {
	return []string{"  " + vm.Name, vm.ID.ResourceGroup(), vm.Region}
}

func otherNames(d scope.Decision) []string {
	var names []string
	for _, o := range d.Others {
		names = append(names, o.Policy.Name)
	}
	return names
}

func missingText(m scope.Missing) string {
	text := map[scope.ItemType]string{
		scope.ItemVM: "machine ", scope.ItemTag: "tag ", scope.ItemResourceGroup: "resource group ", scope.ItemSubscription: "subscription ", scope.ItemCondition: "condition ",
	}[m.Type] + m.Name
	if m.Exclusion {
		text = "the exclusion of " + text
	}
	if m.ElsewhereOnly {
		return text + ", which matches machines in other regions alone"
	}
	return text + ", which matches no machine"
}

func unfitText(u scope.Unfit) string {
	if u.Disk == nil {
		return u.Why()
	}
	return "the disk " + u.Disk.Name + " " + u.Why()
}

func tellUnprotected(w io.Writer, machines []scope.Machine) error {
	if len(machines) == 0 {
		return nil
	}
	var rows [][]string
	for _, m := range machines {
		var reasons []string
		if m.UnknownPolicy != "" {
			reasons = append(reasons, fmt.Sprintf("its tag %s names %q, which is no policy", holdfast.OnboardingTag, m.UnknownPolicy))
		}
		for _, o := range m.Others {
			reasons = append(reasons, fmt.Sprintf("%s (%s): %s", o.Policy.Name, o.Why, o.Because()))
		}
		if len(reasons) == 0 {
			reasons = append(reasons, "no policy asks for it")
		}
		rows = append(rows, append(machineCells(m.VM), strings.Join(reasons, "; ")))
	}
	if err := cli.Lines(w, []string{"Not protected: " + cli.Count(len(machines), "machine")}); err != nil {
		return err
	}
	if err := cli.Table(w, []string{"  NAME", "GROUP", "REGION", "WHY"}, rows); err != nil {
		return err
	}
	return cli.Lines(w, []string{""})
}
