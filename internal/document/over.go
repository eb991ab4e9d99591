package document

import (
	"cmp"
	"slices"

	"github.com/holdfast-backup/holdfast"
)

// Name names a document.
type Name struct {
	Kind string
	Name string // that of an installation is its kind
}

// Names returns which documents files hold, whether or not these are right, and whether or not what they name is there as well.
func Names(files ...File) []Name {
	r := newReader()
	for _, file := range files {
		r.readFile(file)
	}
	var all []Name
	for kind, pages := range r.names {
		for name := range pages {
			all = append(all, Name{kind, name})
		}
	}
	if r.installationPage != nil {
		all = append(all, Name{KindInstallation, KindInstallation})
	}
	slices.SortFunc(all, func(a, b Name) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return all
}

// ReadOver reads files over documents that are in force, each of which is a file of its own as Write writes it: those that the files hold
// take the place of those of the same kind and name, and all together are read as one set. A policy without a priority keeps the one it
// has, or goes last; one whose priority another policy has goes before that one, which moves down.
func ReadOver(inForce, files []File) (holdfast.Documents, []Note, error) {
	before, _, err := Read(inForce...)
	if err != nil {
		return holdfast.Documents{}, nil, err
	}
	r := newReader()
	r.inForce, r.proposed = map[Name]int{}, len(files)
	for _, p := range before.SchedulePolicies {
		r.inForce[Name{KindSchedulePolicy, p.Name}] = p.Priority
	}
	for _, p := range before.SLAPolicies {
		r.inForce[Name{KindSLAPolicy, p.Name}] = p.Priority
	}
	replaced := Names(files...)
	all := slices.Clone(files)
	for _, f := range inForce {
		if !slices.ContainsFunc(Names(f), func(n Name) bool { return slices.Contains(replaced, n) }) {
			all = append(all, f)
		}
	}
	return r.read(all)
}

// placeAmong gives the policies that were read over others a place among these: those of files stand before those in force.
func placeAmong[T any](r *reader, entries []entry[T], common func(*T) *holdfast.PolicyCommon) {
	last, taken := 0, map[int]*page{}
	for i := range entries {
		p := entries[i].page
		c := common(&entries[i].noun)
		if other := taken[c.Priority]; other != nil && p.file <= r.proposed {
			p.samePriority(c.Priority, other)
		}
		if c.Priority == 0 {
			c.Priority = r.inForce[Name{p.kind, p.name}]
		} else {
			taken[c.Priority] = p
		}
		last = max(last, c.Priority)
	}
	for i := range entries {
		if c := common(&entries[i].noun); c.Priority == 0 {
			last++
			c.Priority = last
		}
	}
	moved := slices.Clone(entries)
	slices.SortStableFunc(moved, func(a, b entry[T]) int {
		return cmp.Or(cmp.Compare(common(&a.noun).Priority, common(&b.noun).Priority), cmp.Compare(a.page.file, b.page.file))
	})
	least := map[string]int{}
	next := 0
	for _, e := range moved {
		next = max(next+1, common(&e.noun).Priority)
		least[e.page.name] = next
	}
	for i := range entries {
		common(&entries[i].noun).Priority = least[entries[i].page.name]
	}
}
