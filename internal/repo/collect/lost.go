package collect

import (
	"context"
	"maps"
	"slices"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
	"github.com/holdfast-backup/holdfast/internal/repo/packlist"
	"github.com/holdfast-backup/holdfast/internal/repo/stored"
)

// A record of gone packs that is damaged is made anew: what lists still name and is not there any more stands for all packs that the index
// alone leads to, which is too many and never too few. So the damage of one small object does not end collections for good.

// readGone reads the records of gone packs. Those that are damaged are noted.
func (p *Plan) readGone(ctx context.Context) (packlist.Gone, error) {
	gone := packlist.Gone{}
	for _, name := range p.state.Gone {
		one, err := p.c.lists().Gone(ctx, []string{name})
		if stored.IsDamage(err) {
			p.lostRecords = append(p.lostRecords, name)
			continue
		}
		if err != nil {
			return nil, err
		}
		maps.Copy(gone, one)
	}
	return gone, nil
}

// mustTell refuses to go on when a record is lost and a point is damaged: what only the record led to, and nothing else does since a part
// of the point's map is lost, would be taken for superfluous.
func (p *Plan) mustTell() error {
	if len(p.lostRecords) == 0 || len(p.census.damaged) == 0 {
		return nil
	}
	points := slices.Sorted(maps.Keys(p.census.damaged))
	return holdfast.Errorf(holdfast.KindCorrupt, "%s is damaged, and so is restore point %s: nobody can tell what it needs", p.lostRecords[0], points[0]).
		WithHint("bring the damaged objects back from a copy of the storage, back the machine up, or remove the restore point; then collect again")
}

// tellAnew adds to a record what the lost ones said, as far as it matters.
func (p *Plan) tellAnew(ctx context.Context, state oplog.State, whole packlist.Gone) error {
	named := map[string]bool{}
	for _, successors := range p.census.gone {
		for _, name := range successors {
			named[name] = true
		}
	}
	for _, point := range state.Points {
		packs, _, err := p.c.lists().Expand(ctx, point.List)
		if err != nil {
			return err
		}
		for _, name := range packs {
			named[name] = true
		}
	}
	damage, err := p.damage(ctx, state)
	if err != nil {
		return err
	}
	ailing, first := damage.Names(), ""
	for _, name := range slices.Sorted(maps.Keys(named)) {
		if _, told := whole[name]; told || ailing[name] {
			continue
		}
		if _, told := p.census.gone[name]; told {
			continue
		}
		if shelf, i, err := p.census.pack(ctx, name); err != nil {
			return err
		} else if shelf != nil && !shelf.is(i, doomed) {
			continue
		}
		whole[name] = []string{first}
		if first == "" { // the others stand for this one, which keeps the record short
			first, whole[name] = name, slices.Sorted(maps.Keys(p.census.byIndex))
		}
	}
	return nil
}
