package control

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"

	"github.com/aymanbagabas/go-udiff"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/cost"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/preview"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/scope"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// Documents returns what is in force.
func (c *Control) Documents(ctx context.Context, p auth.Principal) (all []view.Document, err error) {
	err = c.read(ctx, p, auth.SeeSettings, func(ctx context.Context, q store.Query) error {
		rows, err := store.Documents(ctx, q)
		all = make([]view.Document, 0, len(rows))
		for _, d := range rows {
			all = append(all, documentView(d))
		}
		return err
	})
	return all, err
}

func documentView(d store.Document) view.Document {
	return view.Document{Kind: d.Kind, Name: d.Name, Version: d.Version, YAML: d.YAML, Created: d.Created, Updated: d.Updated, Author: d.Author}
}

// Versions returns all versions of a document, the newest first.
func (c *Control) Versions(ctx context.Context, p auth.Principal, kind, name string) (all []view.Document, err error) {
	err = c.read(ctx, p, auth.SeePolicies, func(ctx context.Context, q store.Query) error {
		rows, err := store.Versions(ctx, q, kind, name)
		if err == nil && len(rows) == 0 {
			return holdfast.Errorf(holdfast.KindNotFound, "there never was a %s %q", kind, name).WithField("name")
		}
		all = make([]view.Document, 0, len(rows))
		for _, d := range rows {
			all = append(all, documentView(d))
		}
		slices.SortFunc(all, func(a, b view.Document) int { return b.Version - a.Version })
		return err
	})
	return all, err
}

// proposed is a proposal that was read, beside what is in force.
type proposed struct {
	state     *protection.State
	before    []store.Document
	after     []store.Document // rows that would be in force
	documents holdfast.Documents
	notes     []document.Note
	uses      map[string]store.RepositoryUse // by the name of the repository
}

// Plan says what a proposal would change.
func (c *Control) Plan(ctx context.Context, p auth.Principal, in view.Proposal) (plan view.Plan, err error) {
	err = c.read(ctx, p, auth.SeePolicies, func(ctx context.Context, q store.Query) error {
		read, err := c.propose(ctx, q, in)
		if err != nil {
			return err
		}
		plan, err = c.planOf(ctx, q, read)
		return err
	})
	return plan, err
}

// propose reads a proposal over what is in force.
func (c *Control) propose(ctx context.Context, q store.Query, in view.Proposal) (read proposed, err error) {
	if read.state, err = c.state(ctx, q); err != nil {
		return read, err
	}
	if in.Base != nil && *in.Base != read.state.DocumentsVersion {
		return read, holdfast.Errorf(holdfast.KindConflict, "the documents in force have changed since the proposal was compared with them").WithField("base").
			WithHint("look at the difference again, and apply then")
	}
	if read.before, err = store.Documents(ctx, q); err != nil {
		return read, err
	}
	files := make([]document.File, 0, len(in.Files))
	for _, f := range in.Files {
		files = append(files, document.File{Name: f.Name, Folder: f.Folder, Data: []byte(f.Data)})
	}
	if in.Prune {
		read.documents, read.notes, err = document.Read(files...)
	} else {
		read.documents, read.notes, err = document.ReadOver(protection.Files(read.before), files)
	}
	if err != nil {
		return read, err
	}
	if read.uses, err = store.RepositoryUses(ctx, q); err != nil {
		return read, err
	}
	read.after, err = protection.Rows(read.documents)
	return read, err
}

// planOf compares a proposal with what is in force.
func (c *Control) planOf(ctx context.Context, q store.Query, read proposed) (view.Plan, error) {
	plan := view.Plan{Base: read.state.DocumentsVersion, Changes: changes(read.before, read.after), Coverage: coverage(read), Notes: []string{}}
	for _, n := range read.notes {
		plan.Notes = append(plan.Notes, fmt.Sprintf("%s %s: %s", n.Kind, n.Name, n.Text))
	}
	if !plan.Changed() {
		return plan, nil
	}
	lost, err := c.lost(ctx, q, read)
	plan.Notes = append(plan.Notes, lost...)
	return plan, err
}

type rowKey struct{ kind, name string }

// changes says what becomes of each document, those that change first.
func changes(before, after []store.Document) []view.Change {
	was := map[rowKey]store.Document{}
	for _, d := range before {
		was[rowKey{d.Kind, d.Name}] = d
	}
	all := []view.Change{}
	for _, d := range after {
		key := rowKey{d.Kind, d.Name}
		old, known := was[key]
		delete(was, key)
		change := view.Change{Kind: d.Kind, Name: d.Name, Version: old.Version, Author: old.Author}
		switch {
		case !known:
			change.Verb, change.Diff = view.Create, difference("", d.YAML)
		case old.YAML != d.YAML:
			change.Verb, change.Diff = view.Update, difference(old.YAML, d.YAML)
		default:
			change.Verb = view.Unchanged
		}
		all = append(all, change)
	}
	for _, d := range before {
		if _, left := was[rowKey{d.Kind, d.Name}]; left {
			all = append(all, view.Change{Kind: d.Kind, Name: d.Name, Verb: view.Remove, Version: d.Version, Author: d.Author, Diff: difference(d.YAML, "")})
		}
	}
	return all
}

// difference returns the lines of two texts, with three unchanged ones around those that differ.
func difference(before, after string) []string {
	text := udiff.Unified("before", "after", before, after)
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	const heads = 2
	if len(lines) <= heads {
		return nil
	}
	return lines[heads:]
}

// coverage says which machines another policy would protect, or none.
func coverage(read proposed) []view.Coverage {
	after := scope.New(read.documents).Resolve(read.state.Inventory)
	all := []view.Coverage{}
	for _, m := range after.Machines {
		was := read.state.Decision(m.VM.ID)
		if c := (view.Coverage{VM: m.VM.ID, Before: nameOf(was.Policy), After: nameOf(m.Policy), Why: m.Why}); c.Before != c.After {
			all = append(all, c)
		}
	}
	return all
}

func nameOf(p *scope.Policy) string {
	if p == nil {
		return ""
	}
	return p.Name
}

// lost says which points the next passes of retention would take by the new documents alone, a sentence for each machine.
func (c *Control) lost(ctx context.Context, q store.Query, read proposed) ([]string, error) {
	in, err := c.world(ctx, q, read.state)
	if err != nil || len(in.Points) == 0 {
		return nil, err
	}
	before, err := preview.New(in, c.now())
	if err != nil {
		return nil, err
	}
	in.Documents = read.documents
	after, err := preview.New(in, c.now())
	if err != nil {
		return nil, err
	}
	count := map[holdfast.ResourceID]int{}
	var order []holdfast.ResourceID
	for _, l := range preview.LostByEdit(before, after) {
		if count[l.VM] == 0 {
			order = append(order, l.VM)
		}
		count[l.VM]++
	}
	var notes []string
	for _, vm := range order {
		notes = append(notes, fmt.Sprintf("retention will take %d restore points of %s that would stay by the documents in force", count[vm], vm.Name()))
	}
	return notes, nil
}

// world is what previews begin with: what is in force, the machines that are there, and their points.
func (c *Control) world(ctx context.Context, q store.Query, s *protection.State) (preview.Input, error) {
	in := preview.Input{Documents: s.Documents, Inventory: s.Inventory, Assumptions: cost.DefaultAssumptions()}
	var err error
	if in.Prices, err = cost.BuiltIn(); err != nil {
		return in, err
	}
	points, err := store.Points(ctx, q, store.PointFilter{}, store.Page{})
	for _, p := range points {
		in.Points = append(in.Points, p.Point)
	}
	return in, err
}

// Apply makes a proposal the documents in force. Repositories that are new, or are given another password, are opened or made before.
func (c *Control) Apply(ctx context.Context, p auth.Principal, in view.Proposal) (view.Applied, error) {
	if err := p.Require(auth.ChangePolicies); err != nil {
		return view.Applied{}, err
	}
	var read proposed
	err := c.config.Database.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		read, err = c.propose(ctx, q, in)
		return err
	})
	if err != nil {
		return view.Applied{}, err
	}
	if err := mayChange(p, changes(read.before, read.after), in.Secrets); err != nil {
		return view.Applied{}, err
	}
	if err := checkSecrets(read.documents, in.Secrets); err != nil {
		return view.Applied{}, err
	}
	connected, err := c.connect(ctx, read, in.Secrets)
	if err != nil {
		return view.Applied{}, err
	}
	in.Base = &read.state.DocumentsVersion // what was connected is what is written down
	applied := view.Applied{Repositories: connected}
	err = c.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		again, err := c.propose(ctx, tx, in)
		if err != nil {
			return err
		}
		if applied.Plan, err = c.planOf(ctx, tx, again); err != nil {
			return err
		}
		for name, secret := range in.Secrets {
			if err := c.config.Secrets.Put(ctx, tx, name, secret); err != nil {
				return err
			}
		}
		return c.put(ctx, tx, p.User, applied.Changes, again.after)
	})
	return applied, err
}

// mayChange refuses what the rights of somebody do not cover: settings and repositories are the business of administrators.
func mayChange(p auth.Principal, changes []view.Change, secrets map[string]string) error {
	if len(secrets) > 0 {
		if err := p.Require(auth.ChangeSettings); err != nil {
			return err
		}
	}
	for _, change := range changes {
		if change.Verb == view.Unchanged {
			continue
		}
		right := auth.ChangePolicies
		switch change.Kind {
		case document.KindInstallation, document.KindRepository:
			right = auth.ChangeSettings
		case document.KindSLATemplate, document.KindStorageTemplate:
			right = auth.ChangeTemplates
		}
		if err := p.Require(right); err != nil {
			return err
		}
	}
	return nil
}

// The names of secrets.
const (
	secretMail       = "mail"
	secretRepository = "repository/"
	secretWebhook    = "webhook/"
)

// checkSecrets refuses secrets for what is not declared.
func checkSecrets(d holdfast.Documents, secrets map[string]string) error {
	known := []string{}
	if d.Installation.Mail != nil {
		known = append(known, secretMail)
	}
	for _, r := range d.Repositories {
		known = append(known, secretRepository+r.Name)
	}
	for _, w := range d.Installation.Webhooks {
		known = append(known, secretWebhook+w.URL)
	}
	for name := range secrets {
		if !slices.Contains(known, name) {
			return holdfast.Errorf(holdfast.KindInvalid, "there is no place for a secret %q", name).WithField("secrets").WithHint("secrets are taken for: %s", strings.Join(known, ", "))
		}
	}
	return nil
}

// connect opens or makes the repositories that a proposal declares anew.
func (c *Control) connect(ctx context.Context, read proposed, secrets map[string]string) ([]view.Connected, error) {
	all := []view.Connected{}
	for _, spec := range read.documents.Repositories {
		old, known := read.state.Documents.Repository(spec.Name)
		_, given := secrets[secretRepository+spec.Name]
		if known && old == spec && !given {
			continue
		}
		if !given {
			if err := c.drawPassword(ctx, spec); err != nil {
				return nil, err
			}
		}
		use := read.uses[spec.Name]
		one, err := c.config.Repositories.Connect(ctx, spec, secrets[secretRepository+spec.Name], use.Backups+use.Archives == 0)
		if err != nil {
			return nil, fmt.Errorf("the repository %s: %w", spec.Name, err)
		}
		all = append(all, one)
	}
	return all, nil
}

// drawPassword gives a repository a password of its own where its document names no other way to open it. It is kept before it is used, so that
// what was made under it can be opened whatever happens in between.
func (c *Control) drawPassword(ctx context.Context, spec holdfast.RepositorySpec) error {
	if !spec.Encrypted || spec.KeyID != "" || spec.Password != (holdfast.SecretSource{}) {
		return nil
	}
	name := secretRepository + spec.Name
	if _, err := c.config.Secrets.Secret(ctx, name); !holdfast.IsKind(err, holdfast.KindNotFound) {
		return err
	}
	return c.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		return c.config.Secrets.Put(ctx, tx, name, rand.Text()+rand.Text())
	})
}

// put writes down what changed, and lets the scheduler follow.
func (c *Control) put(ctx context.Context, tx database.Tx, author string, changes []view.Change, rows []store.Document) error {
	now := c.now()
	byName := map[rowKey]store.Document{}
	for _, d := range rows {
		byName[rowKey{d.Kind, d.Name}] = d
	}
	for _, change := range changes {
		switch change.Verb {
		case view.Create, view.Update:
			d := byName[rowKey{change.Kind, change.Name}]
			d.Updated, d.Author = now, author
			if err := store.PutDocument(ctx, tx, d); err != nil {
				return err
			}
		case view.Remove:
			if err := c.drop(ctx, tx, author, change); err != nil {
				return err
			}
		case view.Unchanged:
		}
	}
	tx.OnCommit(c.config.Nudge)
	return nil
}

// drop removes a document with its secret.
func (c *Control) drop(ctx context.Context, tx database.Tx, author string, change view.Change) error {
	if change.Kind == document.KindRepository {
		points, err := store.Points(ctx, tx, store.PointFilter{Repository: change.Name}, store.Page{Limit: 1})
		if err != nil {
			return err
		}
		if len(points) > 0 {
			return holdfast.Errorf(holdfast.KindConflict, "the repository %q holds restore points that are written down here", change.Name).WithField("name").
				WithHint("remove them first, with holdfast point list --repository %q and holdfast point remove", change.Name)
		}
		if err := c.config.Secrets.Remove(ctx, tx, secretRepository+change.Name); err != nil {
			return err
		}
		tx.OnCommit(func() { c.config.Repositories.Forget(change.Name) })
	}
	return store.RemoveDocument(ctx, tx, change.Kind, change.Name, author, c.now())
}

// edit changes documents by a function, in one transaction: what it makes of those in force is checked as a whole and written down.
func (c *Control) edit(ctx context.Context, p auth.Principal, change func(d *holdfast.Documents) error) error {
	return c.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		state, err := c.state(ctx, tx)
		if err != nil {
			return err
		}
		before, err := store.Documents(ctx, tx)
		if err != nil {
			return err
		}
		d := state.Documents
		d.SchedulePolicies, d.SLAPolicies = slices.Clone(d.SchedulePolicies), slices.Clone(d.SLAPolicies)
		d.Repositories = slices.Clone(d.Repositories)
		if err := change(&d); err != nil {
			return err
		}
		after, err := protection.Rows(d)
		if err != nil {
			return err
		}
		if _, err := protection.Read(after); err != nil {
			return err
		}
		all := changes(before, after)
		if err := mayChange(p, all, nil); err != nil {
			return err
		}
		return c.put(ctx, tx, p.User, all, after)
	})
}
