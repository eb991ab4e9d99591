package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
)

// Machine is a virtual machine as it was seen last.
type Machine struct {
	holdfast.InventoryVM
	FirstSeen time.Time
	LastSeen  time.Time
	Gone      time.Time // when a direct read confirmed that it was deleted; zero of one that is there
	Policy    string    // that protects it; "" when none does
	Kind      holdfast.PolicyKind
	Why       string // in words
}

type machineRow struct {
	bun.BaseModel `bun:"table:machines"`

	VM         string `bun:"vm,pk"`
	Body       string
	FirstSeen  int64
	LastSeen   int64
	Gone       int64
	Policy     string
	PolicyKind string
	Why        string
}

// Machines returns all machines that are there, and with gone those that were deleted too, by id.
func Machines(ctx context.Context, q Query, gone Which) ([]Machine, error) {
	var rows []machineRow
	query := q.NewSelect().Model(&rows).Order("vm")
	if gone == ThereAlone {
		query = query.Where("gone = 0")
	}
	if err := query.Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading the machines: %w", err)
	}
	machines := make([]Machine, 0, len(rows))
	for _, r := range rows {
		m, err := r.machine()
		if err != nil {
			return nil, err
		}
		machines = append(machines, m)
	}
	return machines, nil
}

// Which says which machines are meant.
type Which string

// The choices.
const (
	ThereAlone Which = "there" // that exist, as far as is known
	AllEver    Which = "all"   // and those that were deleted
)

// MachineOf returns one machine; KindNotFound when it was never seen.
func MachineOf(ctx context.Context, q Query, vm holdfast.ResourceID) (Machine, error) {
	var rows []machineRow
	if err := q.NewSelect().Model(&rows).Where("vm = ?", vm.Key()).Scan(ctx); err != nil {
		return Machine{}, fmt.Errorf("reading a machine: %w", err)
	}
	if len(rows) == 0 {
		return Machine{}, notFound("virtual machine", string(vm))
	}
	return rows[0].machine()
}

func (r machineRow) machine() (Machine, error) {
	m := Machine{
		FirstSeen: instant(r.FirstSeen), LastSeen: instant(r.LastSeen), Gone: instant(r.Gone),
		Policy: r.Policy, Kind: holdfast.PolicyKind(r.PolicyKind), Why: r.Why,
	}
	return m, decode(r.Body, &m.InventoryVM, "a machine")
}

// PutMachine writes a machine down. FirstSeen stays what it was first.
func PutMachine(ctx context.Context, tx Query, m Machine) error {
	row := machineRow{
		VM: m.ID.Key(), Body: encode(m.InventoryVM), FirstSeen: millis(m.FirstSeen), LastSeen: millis(m.LastSeen), Gone: millis(m.Gone),
		Policy: m.Policy, PolicyKind: string(m.Kind), Why: m.Why,
	}
	_, err := tx.NewInsert().Model(&row).On("CONFLICT (vm) DO UPDATE").
		Set("body = EXCLUDED.body, last_seen = EXCLUDED.last_seen, gone = EXCLUDED.gone, policy = EXCLUDED.policy, policy_kind = EXCLUDED.policy_kind, why = EXCLUDED.why").
		Exec(ctx)
	if err != nil {
		return fmt.Errorf("writing the machine %s: %w", m.ID, err)
	}
	return nil
}

// Seen notes when all machines that are there were seen last.
func Seen(ctx context.Context, tx Query, at time.Time) error {
	if _, err := tx.NewUpdate().Model((*machineRow)(nil)).Set("last_seen = ?", millis(at)).Where("gone = 0").Exec(ctx); err != nil {
		return fmt.Errorf("noting when the machines were seen: %w", err)
	}
	return nil
}

// SameMachine reports whether two descriptions of a machine say the same.
func SameMachine(a, b holdfast.InventoryVM) bool { return encode(a) == encode(b) }

// Regions returns the regions in which a machine was ever seen, by name.
func Regions(ctx context.Context, q Query) ([]string, error) {
	all, err := Machines(ctx, q, AllEver)
	if err != nil {
		return nil, err
	}
	var regions []string
	for _, m := range all {
		regions = append(regions, m.Region)
	}
	slices.Sort(regions)
	return slices.Compact(regions), nil
}
