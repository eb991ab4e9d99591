package store

import (
	"context"
	"fmt"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

type expectationRow struct {
	bun.BaseModel `bun:"table:expectations"`

	Policy          string `bun:",pk"`
	VM              string `bun:"vm,pk"`
	Kind            string `bun:",pk"`
	Flag            string `bun:",pk"`
	Slot            int64  `bun:",pk"`
	ID              string
	PolicyVersion   int
	Template        string
	TemplateVersion int
	Region          string
	Opens           int64
	Closes          int64
	Deadline        int64
	Entry           string
	State           string
	Reason          string
	Ended           int64
	Point           string
}

// AppendExpectations writes down expectations that ended. One that stands there already stays as it is.
func AppendExpectations(ctx context.Context, tx Query, ended []sla.Expectation) error {
	rows := make([]expectationRow, len(ended))
	for i, e := range ended {
		rows[i] = expectationRow{
			Policy: e.Policy, VM: e.Machine.Key(), Kind: string(e.Kind), Flag: e.Flag.String(), Slot: millis(e.Slot), ID: string(e.Machine),
			PolicyVersion: e.PolicyVersion, Template: e.Template, TemplateVersion: e.TemplateVersion, Region: e.Region,
			Opens: millis(e.Opens), Closes: millis(e.Closes), Deadline: millis(e.Deadline), Entry: e.Entry.String(),
			State: string(e.State), Reason: string(e.Reason), Ended: millis(e.Ended), Point: string(e.Point),
		}
	}
	return insertAll(ctx, tx, rows, "CONFLICT DO NOTHING", "writing expectations")
}

func (r expectationRow) expectation() (sla.Expectation, error) {
	e := sla.Expectation{
		Policy: r.Policy, PolicyVersion: r.PolicyVersion, Template: r.Template, TemplateVersion: r.TemplateVersion, Machine: holdfast.ResourceID(r.ID), Region: r.Region,
		Row: sla.Row{Kind: holdfast.PointKind(r.Kind)}, Slot: instant(r.Slot), Opens: instant(r.Opens), Closes: instant(r.Closes), Deadline: instant(r.Deadline),
		State: sla.State(r.State), Reason: sla.Reason(r.Reason), Ended: instant(r.Ended), Point: holdfast.PointID(r.Point),
	}
	err := e.Flag.UnmarshalText([]byte(r.Flag))
	if err == nil {
		err = e.Entry.UnmarshalText([]byte(r.Entry))
	}
	if err != nil {
		return e, holdfast.Wrap(holdfast.KindCorrupt, err, "an expectation in the database cannot be read")
	}
	return e, nil
}

// ExpectationFilter says which expectations that ended are wanted.
type ExpectationFilter struct {
	Policy   string
	VM       holdfast.ResourceID
	Row      sla.Row // the zero value: all rows
	States   []sla.State
	From, To civil.Date // first days of entries, both included; the zero date: no bound
}

func (f ExpectationFilter) apply(query *bun.SelectQuery) *bun.SelectQuery {
	if f.Policy != "" {
		query = query.Where("policy = ?", f.Policy)
	}
	if f.VM != "" {
		query = query.Where("vm = ?", f.VM.Key())
	}
	if f.Row != (sla.Row{}) {
		query = query.Where("kind = ? AND flag = ?", string(f.Row.Kind), f.Row.Flag.String())
	}
	if len(f.States) > 0 {
		query = query.Where("state IN (?)", bun.List(f.States))
	}
	if f.From != (civil.Date{}) {
		query = query.Where("entry >= ?", f.From.String())
	}
	if f.To != (civil.Date{}) {
		query = query.Where("entry <= ?", f.To.String())
	}
	return query
}

// Expectations returns expectations that ended, in order of their slots.
func Expectations(ctx context.Context, q Query, f ExpectationFilter) ([]sla.Expectation, error) {
	var rows []expectationRow
	if err := f.apply(q.NewSelect().Model(&rows).OrderExpr("slot, vm, kind, flag")).Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading expectations: %w", err)
	}
	all := make([]sla.Expectation, len(rows))
	for i, r := range rows {
		var err error
		if all[i], err = r.expectation(); err != nil {
			return nil, err
		}
	}
	return all, nil
}
