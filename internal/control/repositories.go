package control

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/document"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/store"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// Repositories returns all repositories that are declared, by name.
func (c *Control) Repositories(ctx context.Context, p auth.Principal) (all []view.Repository, err error) {
	err = c.read(ctx, p, auth.SeePolicies, func(ctx context.Context, q store.Query) error {
		all, err = c.repositories(ctx, q)
		return err
	})
	return all, err
}

func (c *Control) repositories(ctx context.Context, q store.Query) ([]view.Repository, error) {
	s, err := c.state(ctx, q)
	if err != nil {
		return nil, err
	}
	uses, err := store.RepositoryUses(ctx, q)
	if err != nil {
		return nil, err
	}
	all := []view.Repository{}
	for _, r := range s.Documents.Repositories {
		use := uses[r.Name]
		all = append(all, view.Repository{
			Name: r.Name, Description: r.Description, URL: r.URL, Region: r.Region, Tier: string(r.Tier), Redundancy: string(r.Redundancy), Encrypted: r.Encrypted, Immutable: r.Immutable,
			Backups: use.Backups, Archives: use.Archives, StoredBytes: use.StoredBytes, UsedBy: usedBy(s, r.Name),
		})
	}
	slices.SortFunc(all, func(a, b view.Repository) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return all, nil
}

// usedBy names the policies and storage templates that name a repository.
func usedBy(s *protection.State, name string) []string {
	all := []string{}
	for _, t := range s.Documents.StorageTemplates {
		for _, place := range []holdfast.Placement{t.Backups, t.Archives} {
			found := place.Default == name
			for _, other := range place.Regions {
				found = found || other == name
			}
			if found {
				all = append(all, t.Name)
			}
		}
	}
	for _, p := range s.Documents.SchedulePolicies {
		if slices.ContainsFunc(p.Rows, func(r holdfast.ScheduleRow) bool { return r.Repository == name }) {
			all = append(all, p.Name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Repository returns one repository, looked at now.
func (c *Control) Repository(ctx context.Context, p auth.Principal, name string) (view.Repository, error) {
	all, err := c.Repositories(ctx, p)
	if err != nil {
		return view.Repository{}, err
	}
	i := slices.IndexFunc(all, func(r view.Repository) bool { return r.Name == name })
	if i < 0 {
		return view.Repository{}, errNoRepository(name)
	}
	one := all[i]
	one.Checked = c.now()
	if one.ID, one.Owner, err = c.config.Repositories.Inspect(ctx, name); err != nil {
		one.Problem = err.Error()
	}
	return one, nil
}

func errNoRepository(name string) error {
	return holdfast.Errorf(holdfast.KindNotFound, "there is no repository %q", name).WithField("name").WithHint("see which there are with: holdfast repository list")
}

// AddRepository declares a repository, and opens or makes it. One of that name must not be there.
func (c *Control) AddRepository(ctx context.Context, p auth.Principal, in view.AddRepository) (view.Connected, error) {
	if err := p.Require(auth.ChangeSettings); err != nil {
		return view.Connected{}, err
	}
	names := document.Names(document.File{Name: in.Document.Name, Folder: in.Document.Folder, Data: []byte(in.Document.Data)})
	if len(names) > 1 || len(names) == 1 && names[0].Kind != document.KindRepository {
		return view.Connected{}, holdfast.Errorf(holdfast.KindInvalid, "the document declares more than one repository, or something else").WithField("document").WithHint("give one document of kind Repository; for others use holdfast apply")
	}
	proposal := view.Proposal{Files: []view.File{in.Document}}
	if len(names) == 1 {
		name := names[0].Name
		all, err := c.Repositories(ctx, p)
		if err != nil {
			return view.Connected{}, err
		}
		if slices.ContainsFunc(all, func(r view.Repository) bool { return r.Name == name }) {
			return view.Connected{}, holdfast.Errorf(holdfast.KindConflict, "there is a repository %q already", name).WithField("name").WithHint("change it with holdfast apply, or choose another name")
		}
		if in.Password != "" {
			proposal.Secrets = map[string]string{secretRepository + name: in.Password}
		}
	}
	applied, err := c.Apply(ctx, p, proposal)
	if err != nil || len(applied.Repositories) == 0 {
		return view.Connected{}, err
	}
	return applied.Repositories[0], nil
}

// RemoveRepository forgets a repository that nothing uses and that holds no point which is written down. What is stored in it stays.
func (c *Control) RemoveRepository(ctx context.Context, p auth.Principal, name string) error {
	return c.edit(ctx, p, func(d *holdfast.Documents) error {
		if _, known := d.Repository(name); !known {
			return errNoRepository(name)
		}
		s := &protection.State{Documents: *d}
		if users := usedBy(s, name); len(users) > 0 {
			return holdfast.Errorf(holdfast.KindConflict, "the repository %q is in use", name).WithField("name").WithHint("first change what names it: %s", list(users))
		}
		d.Repositories = slices.DeleteFunc(d.Repositories, func(r holdfast.RepositorySpec) bool { return r.Name == name })
		return nil
	})
}

func list(names []string) string {
	quoted := make([]string, 0, len(names))
	for _, n := range names {
		quoted = append(quoted, strconv.Quote(n))
	}
	return strings.Join(quoted, ", ")
}
