package api

import (
	"context"
	"net/http"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/auth"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/report"
	"github.com/holdfast-backup/holdfast/internal/view"
)

// slaReport is the input of reports.
type slaReport struct {
	Named
	Period    string `query:"period" enum:"daily,weekly,monthly" required:"true"`
	From      string `query:"from" format:"date" doc:"first day of the oldest period; the last 14 days, 12 weeks or 12 months when neither is given"`
	To        string `query:"to" format:"date" doc:"first day of the newest period"`
	VM        string `query:"vm" doc:"this machine alone"`
	Slots     string `query:"slots" enum:"none,missed,all" default:"missed" doc:"which expectations are told"`
	ProvenNow bool   `query:"provenNow" doc:"tell what would count as proven by the proofs of today as well, which takes longer"`
}

func (s slaReport) ask() (report.Ask, error) {
	ask := report.Ask{Policy: s.Name, VM: holdfast.ResourceID(s.VM), Slots: report.Detail(s.Slots), ProvenNow: s.ProvenNow, UnderWay: true}
	if err := ask.Period.UnmarshalText([]byte(s.Period)); err != nil {
		return ask, err
	}
	for _, d := range []struct {
		field, text string
		date        *civil.Date
	}{{"from", s.From, &ask.From}, {"to", s.To, &ask.To}} {
		if d.text == "" {
			continue
		}
		if err := d.date.UnmarshalText([]byte(d.text)); err != nil {
			return ask, holdfast.Wrap(holdfast.KindInvalid, err, "%q is no date", d.text).WithField(d.field).WithHint("write it as 2026-03-01")
		}
	}
	return ask, nil
}

func (a *api) registerReports() {
	on(a, get("slaReport", "/policies/{name}/sla", "How an SLA policy did, period by period"), func(ctx context.Context, p auth.Principal, in *slaReport) (report.Report, error) {
		ask, err := in.ask()
		if err != nil {
			return report.Report{}, err
		}
		return a.Control.SLAReport(ctx, p, ask)
	})
	type test struct{ Body view.TestNotification }
	on(a, change(http.MethodPost, "testNotifications", "/notifications/test", "Send a trial message"), func(ctx context.Context, p auth.Principal, in *test) (view.Delivered, error) {
		return a.Control.TestNotifications(ctx, p, in.Body.To)
	})
}
