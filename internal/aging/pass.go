package aging

import (
	"context"
	"fmt"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/database"
	"github.com/holdfast-backup/holdfast/internal/protection"
	"github.com/holdfast-backup/holdfast/internal/retention"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Pass is the daily pass over all points: what time takes goes, and then repositories give back the storage that nothing needs. It may be run
// again from its beginning; a session that is over is not.
func (a *Aging) Pass(ctx context.Context, session holdfast.RunID) error {
	machines, repositories, over, err := a.beginPass(ctx, session)
	if err != nil || over {
		return err
	}
	p := pass{aging: a, session: session}
	for _, vm := range machines {
		result, err := a.machine(ctx, vm, look{occasion: retention.DailyPass, session: session})
		if err != nil {
			return err
		}
		p.removed += len(result.Removed)
		p.warn(vm, result.Warnings...)
	}
	for _, name := range repositories {
		if err := a.config.Remover.Collect(ctx, name); err != nil {
			if ctx.Err() != nil {
				return err
			}
			p.warn("", fmt.Sprintf("the storage of the repository %s could not be freed: %s", name, err))
		}
	}
	if err := a.forgetSessions(ctx, &p); err != nil {
		return err
	}
	return a.config.Database.Write(ctx, p.end)
}

// sessionsAtOnce bounds how many records one transaction removes: others want to write as well.
const sessionsAtOnce = 200

// forgetSessions removes the records of sessions that are older than people want to keep them.
func (a *Aging) forgetSessions(ctx context.Context, p *pass) error {
	for {
		went := 0
		err := a.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
			state, err := a.intended.Load(ctx, tx)
			if err != nil {
				return err
			}
			age, zone := state.Documents.Installation.SessionRecordAge, state.Settings.Zone
			if age == (holdfast.Period{}) {
				return nil
			}
			if zone == nil {
				zone = time.UTC
			}
			went, err = store.ForgetSessions(ctx, tx, civil.Add(a.now(), holdfast.Period{N: -age.N, Unit: age.Unit}, zone), sessionsAtOnce)
			return err
		})
		p.forgotten += went
		if err != nil || went < sessionsAtOnce {
			return err
		}
	}
}

// beginPass reads what is to be looked at.
func (a *Aging) beginPass(ctx context.Context, session holdfast.RunID) (machines []holdfast.ResourceID, repositories []string, over bool, err error) {
	err = a.config.Database.Write(ctx, func(ctx context.Context, tx database.Tx) error {
		s, err := store.SessionOf(ctx, tx, session)
		if err != nil || s.State == holdfast.StateDone {
			over = true
			return err
		}
		if err := store.StartSession(ctx, tx, session, a.now()); err != nil {
			return err
		}
		var state *protection.State
		if state, err = a.intended.Load(ctx, tx); err != nil {
			return err
		}
		repositories = nil
		for _, r := range state.Documents.Repositories {
			repositories = append(repositories, r.Name)
		}
		machines, err = store.MachinesWithPoints(ctx, tx)
		return err
	})
	return machines, repositories, over, err
}

// pass is one under way.
type pass struct {
	aging     *Aging
	session   holdfast.RunID
	removed   int
	forgotten int // records of sessions
	warnings  []holdfast.LogLine
}

func (p *pass) warn(vm holdfast.ResourceID, texts ...string) {
	for _, text := range texts {
		p.warnings = append(p.warnings, holdfast.LogLine{Session: p.session, At: p.aging.now(), VM: vm, Level: holdfast.LogWarning, Text: text})
	}
}

// end writes down what the pass came to.
func (p *pass) end(ctx context.Context, tx database.Tx) error {
	now := p.aging.now()
	lines := append([]holdfast.LogLine{}, p.warnings...)
	lines = append(lines, holdfast.LogLine{Session: p.session, At: now, Level: holdfast.LogInfo, Text: fmt.Sprintf("%d points went", p.removed)})
	if err := store.AppendLog(ctx, tx, lines...); err != nil {
		return err
	}
	if p.forgotten > 0 {
		if err := store.AppendLog(ctx, tx, holdfast.LogLine{Session: p.session, At: now, Level: holdfast.LogInfo, Text: fmt.Sprintf("the records of %d sessions went", p.forgotten)}); err != nil {
			return err
		}
	}
	outcome := holdfast.OutcomeSuccess
	if len(p.warnings) > 0 {
		outcome = holdfast.OutcomeWarning
	}
	_, err := store.EndSession(ctx, tx, store.Ending{Session: p.session, Outcome: outcome, Message: fmt.Sprintf("%d points went", p.removed), At: now}, p.aging.config.Closed)
	return err
}
