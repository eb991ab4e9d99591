// Package protection is what people intend, put together from the rows of the store: the documents read, who protects whom,
// the estate that the plan decides on, and the rules of retention of each machine.
//
// It promises that a State belongs to one version of the documents and one of the machines, both of which it names, and never
// changes. It decides nothing of its own: package scope says who protects whom, plan what is due, retention what stays.
package protection

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/plan"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/scope"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// State is what is intended as of one version of documents and machines. It is safe for concurrent use.
type State struct {
	DocumentsVersion int64
	MachinesVersion  int64
	Documents        holdfast.Documents
	Inventory        holdfast.Inventory // machines that are there
	Resolution       scope.Resolution   // of the inventory
	Estate           plan.Estate
	Settings         retention.Settings

	versions  map[documentName]int
	decisions map[string]scope.Decision // by ResourceID.Key
	regions   map[string]string         // of machines
	gone      map[string]bool
	there     map[string]int // place in the inventory
	policies  map[string]holdfast.SchedulePolicy
	slas      map[string]holdfast.SLAPolicy
}

type documentName struct{ kind, name string }

// Load returns the state as of now. known, which may be nil, is returned as it is when nothing has changed since.
func Load(ctx context.Context, q store.Query, known *State) (*State, error) {
	documents, err := store.Counted(ctx, q, store.CounterDocuments)
	if err != nil {
		return nil, err
	}
	machines, err := store.Counted(ctx, q, store.CounterMachines)
	if err != nil {
		return nil, err
	}
	if known != nil && known.DocumentsVersion == documents && known.MachinesVersion == machines {
		return known, nil
	}
	rows, err := store.Documents(ctx, q)
	if err != nil {
		return nil, err
	}
	seen, err := store.Machines(ctx, q, store.AllEver)
	if err != nil {
		return nil, err
	}
	s, err := build(rows, seen)
	if err != nil {
		return nil, err
	}
	s.DocumentsVersion, s.MachinesVersion = documents, machines
	return s, nil
}

// Cache keeps the state that was loaded last. The zero value is empty. Safe for concurrent use.
type Cache struct{ known atomic.Pointer[State] }

// Load returns the state as of now, which is read anew only when it has changed.
func (c *Cache) Load(ctx context.Context, q store.Query) (*State, error) {
	s, err := Load(ctx, q, c.known.Load())
	if err == nil {
		c.known.Store(s)
	}
	return s, err
}

func build(rows []store.Document, machines []store.Machine) (*State, error) {
	s := &State{
		versions: map[documentName]int{}, decisions: map[string]scope.Decision{}, regions: map[string]string{}, gone: map[string]bool{}, there: map[string]int{},
		policies: map[string]holdfast.SchedulePolicy{}, slas: map[string]holdfast.SLAPolicy{},
	}
	var err error
	if s.Documents, err = Read(rows); err != nil {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "the documents in the database do not fit together")
	}
	for _, d := range rows {
		s.versions[documentName{d.Kind, d.Name}] = d.Version
	}
	if s.Settings, err = retention.SettingsOf(s.Documents.Installation); err != nil {
		return nil, err
	}
	for _, m := range machines {
		s.regions[m.ID.Key()] = m.Region
		if !m.Gone.IsZero() {
			s.gone[m.ID.Key()] = true
			continue
		}
		s.there[m.ID.Key()] = len(s.Inventory.VMs)
		s.Inventory.VMs = append(s.Inventory.VMs, m.InventoryVM)
	}
	s.Resolution = scope.New(s.Documents).Resolve(s.Inventory)
	protected := map[string][]plan.Machine{}
	for _, m := range s.Resolution.Machines {
		s.decisions[m.VM.ID.Key()] = m.Decision
		if m.Policy != nil {
			protected[m.Policy.Name] = append(protected[m.Policy.Name], plan.Machine{ID: m.VM.ID, Region: m.VM.Region})
		}
	}
	for _, p := range s.Documents.SchedulePolicies {
		s.policies[p.Name] = p
	}
	for _, p := range s.Documents.SLAPolicies {
		s.slas[p.Name] = p
	}
	s.Estate, err = plan.New(s.Documents, func(policy string) []plan.Machine { return protected[policy] })
	return s, err
}

// Read reads documents as they are stored, all of them as one set.
func Read(rows []store.Document) (holdfast.Documents, error) {
	documents, _, err := document.Read(Files(rows)...)
	return documents, err
}

// Files are documents as they are stored, each as a file of its own.
func Files(rows []store.Document) []document.File {
	files := make([]document.File, len(rows))
	for i, d := range rows {
		files[i] = document.File{Name: d.Kind + " " + d.Name, Folder: "/", Data: []byte(d.YAML)}
	}
	return files
}

// Version returns the version of a document; 0 when there is none of that kind and name.
func (s *State) Version(kind, name string) int { return s.versions[documentName{kind, name}] }

// Decision says who protects a machine. The zero value, nobody, is that of a machine that is not there.
func (s *State) Decision(vm holdfast.ResourceID) scope.Decision { return s.decisions[vm.Key()] }

// Region returns the region of a machine that was ever seen.
func (s *State) Region(vm holdfast.ResourceID) string { return s.regions[vm.Key()] }

// Policy returns what policies of both kinds have in common, and of which kind a policy is; false when there is none of that name.
func (s *State) Policy(name string) (holdfast.PolicyCommon, holdfast.PolicyKind, bool) {
	if p, ok := s.policies[name]; ok {
		return p.PolicyCommon, holdfast.PolicySchedule, true
	}
	p, ok := s.slas[name]
	return p.PolicyCommon, holdfast.PolicySLA, ok
}

// SLA returns an SLA policy with its template; false when there is none of that name.
func (s *State) SLA(name string) (holdfast.SLAPolicy, holdfast.SLATemplate, bool) {
	p, ok := s.slas[name]
	template, known := s.Documents.SLATemplate(p.Template)
	return p, template, ok && known
}

// ChangedRanges reports whether backups of a policy read what changed since the one before.
func (s *State) ChangedRanges(policy string) bool {
	if _, ok := s.policies[policy]; ok {
		return true
	}
	_, template, ok := s.SLA(policy)
	return ok && template.ChangedRanges
}

// Rules returns the rules of retention that hold for the points of a machine.
func (s *State) Rules(vm holdfast.ResourceID) (retention.Rules, error) {
	unprotected := retention.Unprotected(s.Settings)
	unprotected.Gone = s.gone[vm.Key()]
	decision := s.Decision(vm)
	if decision.Policy == nil {
		return unprotected, nil
	}
	if p, ok := s.policies[decision.Policy.Name]; ok {
		zone, err := plan.ZoneOf(p, s.zone())
		if err != nil {
			return retention.Rules{}, err
		}
		return retention.RulesOf(p, zone, s.Settings), nil
	}
	_, template, ok := s.SLA(decision.Policy.Name)
	holdfast.Invariant(ok, "the policy %q was there a moment ago", decision.Policy.Name)
	zone, err := plan.ZoneOfRegion(s.Region(vm))
	if err != nil {
		return retention.Rules{}, err
	}
	return retention.RulesOfTemplate(template, zone, s.Settings), nil
}

func (s *State) zone() *time.Location {
	if s.Settings.Zone == nil {
		return time.UTC
	}
	return s.Settings.Zone
}

// Machine returns a machine that is there; false for any other one.
func (s *State) Machine(vm holdfast.ResourceID) (holdfast.InventoryVM, bool) {
	i, there := s.there[vm.Key()]
	if !there {
		return holdfast.InventoryVM{}, false
	}
	return s.Inventory.VMs[i], true
}

// Rows divides documents into rows of the store, each in its canonical form.
func Rows(d holdfast.Documents) ([]store.Document, error) {
	type part struct {
		kind, name string
		documents  holdfast.Documents
	}
	parts := []part{{document.KindInstallation, document.KindInstallation, holdfast.Documents{Installation: d.Installation}}}
	for _, r := range d.Repositories {
		parts = append(parts, part{document.KindRepository, r.Name, holdfast.Documents{Repositories: []holdfast.RepositorySpec{r}}})
	}
	for _, t := range d.SLATemplates {
		parts = append(parts, part{document.KindSLATemplate, t.Name, holdfast.Documents{SLATemplates: []holdfast.SLATemplate{t}}})
	}
	for _, t := range d.StorageTemplates {
		parts = append(parts, part{document.KindStorageTemplate, t.Name, holdfast.Documents{StorageTemplates: []holdfast.StorageTemplate{t}}})
	}
	for _, p := range d.SLAPolicies {
		parts = append(parts, part{document.KindSLAPolicy, p.Name, holdfast.Documents{SLAPolicies: []holdfast.SLAPolicy{p}}})
	}
	for _, p := range d.SchedulePolicies {
		parts = append(parts, part{document.KindSchedulePolicy, p.Name, holdfast.Documents{SchedulePolicies: []holdfast.SchedulePolicy{p}}})
	}
	var rows []store.Document
	for _, p := range parts {
		text, err := document.Write(p.documents)
		if err != nil {
			return nil, err
		}
		if len(text) > 0 { // the settings of an installation that are the defaults
			rows = append(rows, store.Document{Kind: p.kind, Name: p.name, YAML: string(text)})
		}
	}
	return rows, nil
}
