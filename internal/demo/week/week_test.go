package week_test

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast/internal/demo/week"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// TestRun lives through the week: something goes wrong, each line that differs from the preview is explained, the SLA report shows the misses,
// and every restore point is what its disks held.
func TestRun(t *testing.T) {
	var said []string
	began := time.Now()
	r, err := week.Run(t.Context(), week.Config{
		Folder: t.TempDir(), From: time.Date(2026, time.March, 2, 0, 0, 0, 0, time.UTC), Log: slog.New(slog.DiscardHandler), Say: func(format string, _ ...any) { said = append(said, format) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v: %d promised, %d happened, %d refused, %d missed, %d differences", time.Since(began), r.Promised, r.Happened, r.Refused, r.Missed, len(r.Differences))
	if !r.OK || r.Unexplained > 0 || len(r.Proof.Wrong) > 0 {
		t.Errorf("%d unexplained: %v; wrong: %v", r.Unexplained, r.Differences, r.Proof.Wrong)
	}
	if r.Refused == 0 || r.Missed == 0 || len(r.Differences) == 0 {
		t.Error("nothing went wrong in the week")
	}
	missed := 0
	for _, e := range r.SLA.Entries {
		for _, m := range e.ByMachine {
			for _, x := range m.Expectations {
				if x.State == sla.Missed {
					missed++
				}
			}
		}
	}
	if missed != r.Missed {
		t.Errorf("the report has %d missed slots, the record %d", missed, r.Missed)
	}
	if r.Proof.Points < 20 {
		t.Errorf("%d points were read", r.Proof.Points)
	}
	var out strings.Builder
	if err := r.Tell(&out); err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{"Missed:", "db-1", "all equal to what the disks held", "0 of them unexplained"} {
		if !strings.Contains(out.String(), says) {
			t.Errorf("it does not say %q:\n%s", says, out.String())
		}
	}
	if len(said) != 3 {
		t.Errorf("%d lines of the story", len(said))
	}
}
