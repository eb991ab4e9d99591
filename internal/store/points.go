package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/retention"
)

// PointState is how far a point has come in the cloud or its repository.
type PointState string

// The states. What is making or removing is finished by whoever meets it next.
const (
	PointMaking   PointState = "making" // its names are written down; it may be there in part
	PointKept     PointState = "kept"
	PointRemoving PointState = "removing" // it goes; it may be gone in part
	PointRemoved  PointState = "removed"
)

// Point is what the control plane knows of a restore point.
type Point struct {
	retention.Point
	Name        string // of the machine
	State       PointState
	Session     holdfast.RunID // that made it
	BaseFor     []string       // repositories whose next backup is compared with this snapshot
	Consistency holdfast.Consistency
	Snapshots   json.RawMessage  // a set of snapshots with all names, from before they are made; null when there is none
	CopiedFrom  holdfast.PointID // of an archive
	Bytes       holdfast.Bytes
	ProofLevel  int
	Proved      time.Time
	RemovedAt   time.Time
	RemovedWhy  string         // in words
	LetGoIn     holdfast.RunID // the session in which retention let it go; "" where a person did, or no session was under way
}

type pointRow struct {
	bun.BaseModel `bun:"table:points"`

	ID          string `bun:",pk"`
	VM          string `bun:"vm"`
	VMID        string `bun:"vm_id"`
	Name        string
	Kind        string
	State       string
	Session     string
	Policy      string
	Slot        int64
	Created     int64
	Flags       string
	LikeFlag    string
	Repository  string `bun:",pk"`
	Region      string
	Good        bool
	Manual      bool
	Temporary   bool
	BaseFor     string
	Outdated    bool
	LockedUntil int64
	Keep        string
	Consistency string
	Snapshots   string
	CopiedFrom  string
	TotalBytes  int64
	ReadBytes   int64
	StoredBytes int64
	ProofLevel  int
	Proved      int64
	Removed     int64
	RemovedWhy  string
	LetGoIn     string
}

func rowOf(p Point) pointRow {
	row := pointRow{
		ID: string(p.ID), VM: p.VM.Key(), VMID: string(p.VM), Name: p.Name, Kind: string(p.Kind), State: string(p.State), Session: string(p.Session), Policy: p.Policy,
		Slot: millis(p.Slot), Created: millis(p.Created), Flags: p.Flags.String(), Repository: p.Repository, Region: p.Region,
		Good: p.Good, Manual: p.Manual, Temporary: p.Temporary, BaseFor: encode(append([]string{}, p.BaseFor...)), Outdated: p.Outdated, LockedUntil: millis(p.LockedUntil),
		Keep: encode(p.Keep), Consistency: string(p.Consistency), Snapshots: string(p.Snapshots), CopiedFrom: string(p.CopiedFrom),
		TotalBytes: p.Bytes.Total, ReadBytes: p.Bytes.Read, StoredBytes: p.Bytes.Stored, ProofLevel: p.ProofLevel, Proved: millis(p.Proved),
		Removed: millis(p.RemovedAt), RemovedWhy: p.RemovedWhy, LetGoIn: string(p.LetGoIn),
	}
	if p.Like != 0 {
		row.LikeFlag = p.Like.String()
	}
	return row
}

func (r pointRow) point() (Point, error) {
	p := Point{
		Point: retention.Point{
			ID: holdfast.PointID(r.ID), VM: holdfast.ResourceID(r.VMID), Kind: holdfast.PointKind(r.Kind), Policy: r.Policy, Slot: instant(r.Slot), Created: instant(r.Created),
			Repository: r.Repository, Region: r.Region, Good: r.Good, Manual: r.Manual, Temporary: r.Temporary, Outdated: r.Outdated, LockedUntil: instant(r.LockedUntil),
		},
		Name: r.Name, State: PointState(r.State), Session: holdfast.RunID(r.Session), Consistency: holdfast.Consistency(r.Consistency), CopiedFrom: holdfast.PointID(r.CopiedFrom),
		Bytes: holdfast.Bytes{Total: r.TotalBytes, Read: r.ReadBytes, Stored: r.StoredBytes}, ProofLevel: r.ProofLevel, Proved: instant(r.Proved),
		RemovedAt: instant(r.Removed), RemovedWhy: r.RemovedWhy, LetGoIn: holdfast.RunID(r.LetGoIn),
	}
	if r.Snapshots != "" {
		p.Snapshots = json.RawMessage(r.Snapshots)
	}
	if err := p.Flags.UnmarshalText([]byte(r.Flags)); err != nil {
		return p, holdfast.Wrap(holdfast.KindCorrupt, err, "the flags of a point in the database cannot be read")
	}
	if r.LikeFlag != "" {
		if err := p.Like.UnmarshalText([]byte(r.LikeFlag)); err != nil {
			return p, holdfast.Wrap(holdfast.KindCorrupt, err, "the flags of a point in the database cannot be read")
		}
	}
	if err := decode(r.BaseFor, &p.BaseFor, "a point"); err != nil {
		return p, err
	}
	p.Base = len(p.BaseFor) > 0
	return p, decode(r.Keep, &p.Keep, "a point")
}

// Set returns the snapshots of a snapshot point.
func (p Point) Set() (holdfast.SnapshotSet, error) {
	var set holdfast.SnapshotSet
	return set, decode(string(p.Snapshots), &set, "the snapshots of a point")
}

// WithSet returns the point with its snapshots.
func (p Point) WithSet(set holdfast.SnapshotSet) Point {
	p.Snapshots = json.RawMessage(encode(set))
	return p
}

// PutPoint writes a point down, a new one or as it stands now.
func PutPoint(ctx context.Context, tx Query, p Point) error {
	row := rowOf(p)
	_, err := tx.NewInsert().Model(&row).On("CONFLICT (id, repository) DO UPDATE").
		Set("state = EXCLUDED.state, created = EXCLUDED.created, flags = EXCLUDED.flags, like_flag = EXCLUDED.like_flag, good = EXCLUDED.good").
		Set("temporary = EXCLUDED.temporary, base_for = EXCLUDED.base_for, outdated = EXCLUDED.outdated, locked_until = EXCLUDED.locked_until").
		Set("keep = EXCLUDED.keep, consistency = EXCLUDED.consistency, snapshots = EXCLUDED.snapshots, copied_from = EXCLUDED.copied_from").
		Set("total_bytes = EXCLUDED.total_bytes, read_bytes = EXCLUDED.read_bytes, stored_bytes = EXCLUDED.stored_bytes").
		Set("proof_level = EXCLUDED.proof_level, proved = EXCLUDED.proved, removed = EXCLUDED.removed, removed_why = EXCLUDED.removed_why, let_go_in = EXCLUDED.let_go_in").
		Exec(ctx)
	if err != nil {
		return fmt.Errorf("writing the point %s: %w", p.ID, err)
	}
	return nil
}

// DropPoint removes the row of a point that was never whole.
func DropPoint(ctx context.Context, tx Query, id holdfast.PointID) error {
	if _, err := tx.NewDelete().Model((*pointRow)(nil)).Where("id = ? AND state = ?", string(id), string(PointMaking)).Exec(ctx); err != nil {
		return fmt.Errorf("removing the row of the point %s: %w", id, err)
	}
	return nil
}

// PointFilter says which points are wanted. The zero value wants all that are kept.
type PointFilter struct {
	VM         holdfast.ResourceID
	Policy     string
	Session    holdfast.RunID
	Repository string
	Kinds      []holdfast.PointKind
	States     []PointState // none: kept
	Temporary  bool         // those that sessions made for their own work as well
}

// Points returns points, the oldest first; with a page, the newest first.
func Points(ctx context.Context, q Query, f PointFilter, p Page) ([]Point, error) {
	var rows []pointRow
	query := f.apply(q.NewSelect().Model(&rows))
	if p.Limit > 0 {
		query = query.OrderExpr("created DESC, id DESC").Limit(int64(p.Limit))
		if p.After != "" {
			query = query.Where("(created, id) < (SELECT p.created, p.id FROM points AS p WHERE p.id = ?)", p.After)
		}
	} else {
		query = query.OrderExpr("created, id")
	}
	if err := query.Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the points: %w", err)
	}
	points := make([]Point, 0, len(rows))
	for _, r := range rows {
		p, err := r.point()
		if err != nil {
			return nil, err
		}
		points = append(points, p)
	}
	return points, nil
}

func (f PointFilter) apply(query *bun.SelectQuery) *bun.SelectQuery {
	states := f.States
	if len(states) == 0 {
		states = []PointState{PointKept}
	}
	query = query.Where("state IN (?)", bun.List(states))
	if f.VM != "" {
		query = query.Where("vm = ?", f.VM.Key())
	}
	if f.Policy != "" {
		query = query.Where("policy = ?", f.Policy)
	}
	if f.Session != "" {
		query = query.Where("session = ?", string(f.Session))
	}
	if f.Repository != "" {
		query = query.Where("repository = ?", f.Repository)
	}
	if len(f.Kinds) > 0 {
		query = query.Where("kind IN (?)", bun.List(f.Kinds))
	}
	if !f.Temporary {
		query = query.Where("NOT temporary")
	}
	return query
}

// PointIn returns a point of a repository; KindNotFound when there is none.
func PointIn(ctx context.Context, q Query, id holdfast.PointID, repository string) (Point, error) {
	var rows []pointRow
	if err := q.NewSelect().Model(&rows).Where("id = ? AND repository = ?", string(id), repository).Scan(ctx); err != nil {
		return Point{}, fmt.Errorf("reading a point: %w", err)
	}
	if len(rows) == 0 {
		return Point{}, notFound("point", string(id))
	}
	return rows[0].point()
}

// PointOf returns one point; KindNotFound when there never was one.
func PointOf(ctx context.Context, q Query, id holdfast.PointID) (Point, error) {
	var rows []pointRow
	if err := q.NewSelect().Model(&rows).Where("id = ?", string(id)).Scan(ctx); err != nil {
		return Point{}, fmt.Errorf("reading a point: %w", err)
	}
	if len(rows) == 0 {
		return Point{}, notFound("restore point", string(id))
	}
	return rows[0].point()
}

// MachinesWithPoints returns the ids of all machines that have points, those included that are going, by id.
func MachinesWithPoints(ctx context.Context, q Query) ([]holdfast.ResourceID, error) {
	var rows []pointRow
	if err := q.NewSelect().Model(&rows).Column("vm", "vm_id").Where("state IN (?)", bun.List([]PointState{PointKept, PointRemoving})).Group("vm", "vm_id").Order("vm").Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the machines with points: %w", err)
	}
	ids := make([]holdfast.ResourceID, 0, len(rows))
	for _, r := range rows {
		if id := holdfast.ResourceID(r.VMID); len(ids) == 0 || !ids[len(ids)-1].Equal(id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// Handled is how many points a session made, of each kind, and how many retention let go in it. What sessions made for their own work
// is not counted.
type Handled struct {
	Made  map[holdfast.PointKind]int
	LetGo int
}

// HandledIn returns that for some sessions. One that handled nothing is not there.
func HandledIn(ctx context.Context, q Query, sessions []holdfast.RunID) (map[holdfast.RunID]Handled, error) {
	all := map[holdfast.RunID]Handled{}
	for some := range slices.Chunk(sessions, rowsAtOnce) {
		var made, gone []struct {
			Session string `bun:"session"`
			Kind    string `bun:"kind"`
			Number  int    `bun:"number"`
		}
		err := q.NewSelect().Model((*pointRow)(nil)).Column("session", "kind").ColumnExpr("COUNT(*) AS number").
			Where("session IN (?) AND state <> ? AND NOT temporary", bun.List(some), string(PointMaking)).Group("session", "kind").Scan(ctx, &made)
		if err != nil {
			return nil, fmt.Errorf("counting the points of sessions: %w", err)
		}
		err = q.NewSelect().Model((*pointRow)(nil)).ColumnExpr("let_go_in AS session, COUNT(*) AS number").
			Where("let_go_in IN (?) AND NOT temporary", bun.List(some)).Group("let_go_in").Scan(ctx, &gone)
		if err != nil {
			return nil, fmt.Errorf("counting the points that went in sessions: %w", err)
		}
		for _, r := range made {
			h := all[holdfast.RunID(r.Session)]
			if h.Made == nil {
				h.Made = map[holdfast.PointKind]int{}
			}
			h.Made[holdfast.PointKind(r.Kind)] = r.Number
			all[holdfast.RunID(r.Session)] = h
		}
		for _, r := range gone {
			h := all[holdfast.RunID(r.Session)]
			h.LetGo = r.Number
			all[holdfast.RunID(r.Session)] = h
		}
	}
	return all, nil
}

// PointCount is how many restore points a machine has.
type PointCount struct {
	Points int
	Newest time.Time // when the newest good one was made
}

// PointCounts returns the restore points of all machines that have one, by the key of the machine's id.
func PointCounts(ctx context.Context, q Query) (map[string]PointCount, error) {
	var rows []struct {
		VM     string `bun:"vm"`
		Points int
		Newest int64
	}
	err := q.NewSelect().Model((*pointRow)(nil)).ColumnExpr("vm, COUNT(*) AS points, MAX(CASE WHEN good THEN created ELSE 0 END) AS newest").
		Where("state = ? AND NOT temporary", string(PointKept)).Group("vm").Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("counting the points: %w", err)
	}
	all := make(map[string]PointCount, len(rows))
	for _, r := range rows {
		all[r.VM] = PointCount{r.Points, instant(r.Newest)}
	}
	return all, nil
}

// RepositoryUse is what is written down of the points in a repository.
type RepositoryUse struct {
	Backups, Archives int
	StoredBytes       int64 // that they added when they were made
}

// RepositoryUses returns what is written down of the points in all repositories, by name.
func RepositoryUses(ctx context.Context, q Query) (map[string]RepositoryUse, error) {
	var rows []struct {
		Repository string
		Kind       string
		Points     int
		Stored     int64
	}
	err := q.NewSelect().Model((*pointRow)(nil)).ColumnExpr("repository, kind, COUNT(*) AS points, SUM(stored_bytes) AS stored").
		Where("state IN (?) AND repository <> ''", bun.List([]PointState{PointKept, PointRemoving})).Group("repository", "kind").Scan(ctx, &rows)
	if err != nil {
		return nil, fmt.Errorf("counting the points of repositories: %w", err)
	}
	all := map[string]RepositoryUse{}
	for _, r := range rows {
		use := all[r.Repository]
		use.StoredBytes += r.Stored
		if r.Kind == string(holdfast.PointArchive) {
			use.Archives += r.Points
		} else {
			use.Backups += r.Points
		}
		all[r.Repository] = use
	}
	return all, nil
}

// Same reports whether two points are the same row.
func Same(a, b Point) bool { return rowOf(a) == rowOf(b) }

// Flagged names points of a machine that bear a flag.
type Flagged struct {
	VM     holdfast.ResourceID
	Policy string
	Kind   holdfast.PointKind
	Flag   holdfast.Flag
	Since  time.Time
}

// Borne reports whether a good point that was made since an instant bears a flag, or did when it was removed.
func Borne(ctx context.Context, q Query, f Flagged) (bool, error) {
	count, err := q.NewSelect().Model((*pointRow)(nil)).
		Where("vm = ? AND policy = ? AND kind = ? AND good AND state <> ?", f.VM.Key(), f.Policy, string(f.Kind), string(PointMaking)).
		Where("created >= ? AND flags LIKE ?", millis(f.Since), "%"+holdfast.Flags(0).With(f.Flag).String()+"%").Count(ctx)
	if err != nil {
		return false, fmt.Errorf("reading which flags were given: %w", err)
	}
	return count > 0, nil
}

// Rebase makes a snapshot the one that the next backup of its machine into a repository is compared with, in place of all others. "" leaves
// none.
func Rebase(ctx context.Context, tx Query, vm holdfast.ResourceID, repository string, base holdfast.PointID) error {
	points, err := Points(ctx, tx, PointFilter{VM: vm, Kinds: []holdfast.PointKind{holdfast.PointSnapshot}, Temporary: true}, Page{})
	if err != nil {
		return err
	}
	for _, p := range points {
		is, was := p.ID == base, slices.Contains(p.BaseFor, repository)
		if is == was {
			continue
		}
		if was {
			p.BaseFor = slices.DeleteFunc(p.BaseFor, func(name string) bool { return name == repository })
		} else {
			p.BaseFor = append(p.BaseFor, repository)
		}
		if err := PutPoint(ctx, tx, p); err != nil {
			return err
		}
	}
	return nil
}
