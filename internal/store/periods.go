package store

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/uptrace/bun"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

type periodRow struct {
	bun.BaseModel `bun:"table:periods"`

	Policy   string `bun:",pk"`
	Kind     string `bun:",pk"`
	Flag     string `bun:",pk"`
	Entry    string `bun:",pk"`
	Closed   int64
	Body     string
	Machines string
}

// Period is an entry that closed, and what each machine achieved in it.
type Period struct {
	sla.Compliance
	ByMachine []sla.MachineCompliance // by id; nil where they were not asked for
}

// PutPeriod writes down an entry that closed; a second time when its share of proven points froze.
func PutPeriod(ctx context.Context, tx Query, p Period) error {
	row := periodRow{
		Policy: p.Policy, Kind: string(p.Kind), Flag: p.Flag.String(), Entry: p.Entry.String(), Closed: millis(p.Closed), Body: encode(p.Compliance),
		Machines: encodeMachines(p.ByMachine),
	}
	_, err := tx.NewInsert().Model(&row).On("CONFLICT (policy, kind, flag, entry) DO UPDATE").Set("body = EXCLUDED.body, machines = EXCLUDED.machines").Exec(ctx)
	if err != nil {
		return fmt.Errorf("writing a closed period: %w", err)
	}
	return nil
}

// encodeMachines writes a line for each machine: its counts in the order of sla.Count less their sum, whether it was removed, and its id. Years of
// days of thousands of machines are read at once, so it is neither JSON nor a row each.
func encodeMachines(machines []sla.MachineCompliance) string {
	var text []byte
	for _, m := range machines {
		removed := 0
		if m.Status == sla.Removed {
			removed = 1
		}
		for _, n := range []int{m.Met, m.Missed, m.Excused, m.Open, m.Proven, removed} {
			text = append(strconv.AppendInt(text, int64(n), 10), ' ')
		}
		text = append(append(text, m.Machine...), '\n')
	}
	return string(text)
}

// decodeMachines reads what encodeMachines wrote, judged against the target of the entry.
func decodeMachines(text string, targetPercent float64) ([]sla.MachineCompliance, error) {
	judge := sla.NewJudge(targetPercent)
	machines := make([]sla.MachineCompliance, 0, strings.Count(text, "\n"))
	for line := range strings.Lines(text) {
		var c sla.Count
		var removed int
		for _, n := range []*int{&c.Met, &c.Missed, &c.Excused, &c.Open, &c.Proven, &removed} {
			number, rest, _ := strings.Cut(line, " ")
			var err error
			if *n, err = strconv.Atoi(number); err != nil {
				return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "what the machines achieved in a closed period cannot be read in the database")
			}
			line = rest
		}
		c.Planned = c.Met + c.Missed + c.Excused + c.Open
		machines = append(machines, judge.Machine(holdfast.ResourceID(strings.TrimSuffix(line, "\n")), c, removed == 1))
	}
	return machines, nil
}

// PeriodFilter says which closed entries of a policy are wanted.
type PeriodFilter struct {
	Policy   string
	Row      sla.Row    // the zero value: all rows
	From, To civil.Date // their first days, both included; the zero date: no bound
	Newest   int        // that many of the newest ones; 0: all
	Machines bool       // with what each machine achieved
}

// Periods returns closed entries, the oldest first; those of several rows are in order of their days.
func Periods(ctx context.Context, q Query, f PeriodFilter) ([]Period, error) {
	var rows []periodRow
	query := q.NewSelect().Model(&rows).Column("body").Where("policy = ?", f.Policy).OrderExpr("entry DESC, kind DESC, flag DESC")
	if f.Machines {
		query = query.Column("machines")
	}
	if f.Row != (sla.Row{}) {
		query = query.Where("kind = ? AND flag = ?", string(f.Row.Kind), f.Row.Flag.String())
	}
	if f.From != (civil.Date{}) {
		query = query.Where("entry >= ?", f.From.String())
	}
	if f.To != (civil.Date{}) {
		query = query.Where("entry <= ?", f.To.String())
	}
	if f.Newest > 0 {
		query = query.Limit(int64(f.Newest))
	}
	if err := query.Scan(ctx); err != nil {
		return nil, fmt.Errorf("reading closed periods: %w", err)
	}
	periods := make([]Period, len(rows))
	for i, r := range rows {
		p := &periods[len(rows)-1-i]
		if err := decode(r.Body, &p.Compliance, "a closed period"); err != nil {
			return nil, err
		}
		if !f.Machines {
			continue
		}
		var err error
		if p.ByMachine, err = decodeMachines(r.Machines, p.TargetPercent); err != nil {
			return nil, err
		}
	}
	return periods, nil
}

// Standings is which points met the expectations of one row of a policy in closed entries, and how far they have been proven.
type Standings struct {
	Policy   string
	Row      sla.Row
	From, To civil.Date // first days of entries, both included
	Level    int        // points that are proven less far, and those that retention removed, are left out
}

// ProvenPoints returns the points that met expectations, as they stand now, by the first day of the entry.
func ProvenPoints(ctx context.Context, q Query, f Standings) (map[civil.Date][]sla.Proven, error) {
	rows, err := q.NewSelect().TableExpr("expectations AS e").Join("JOIN points AS p ON p.id = e.point").
		ColumnExpr("e.entry, e.id, p.proof_level, p.proved").
		Where("e.policy = ? AND e.kind = ? AND e.flag = ?", f.Policy, string(f.Row.Kind), f.Row.Flag.String()).
		Where("e.entry BETWEEN ? AND ? AND e.state = ?", f.From.String(), f.To.String(), string(sla.Met)).
		Where("p.removed = 0 AND p.proof_level >= ?", f.Level).Rows(ctx)
	if err != nil {
		return nil, fmt.Errorf("reading what is proven: %w", err)
	}
	defer func() { _ = rows.Close() }() // what was read is judged by Err
	proven := map[civil.Date][]sla.Proven{}
	for rows.Next() {
		var entry, machine string
		var level int
		var proved int64
		if err := rows.Scan(&entry, &machine, &level, &proved); err != nil {
			return nil, fmt.Errorf("reading what is proven: %w", err)
		}
		var day civil.Date
		if err := day.UnmarshalText([]byte(entry)); err != nil {
			return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "an expectation in the database cannot be read")
		}
		one := sla.Proven{Machine: holdfast.ResourceID(machine)}
		if level > 0 {
			one.Standing.Proofs[level-1] = instant(proved)
		}
		proven[day] = append(proven[day], one)
	}
	return proven, rows.Err()
}
