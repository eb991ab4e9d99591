package show_test

import (
	"strings"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/cli/show"
	"github.com/holdfast-backup/holdfast/internal/sla"
	"github.com/holdfast-backup/holdfast/internal/sla/replay"
)

// TestReplay proves that people are told every figure, each miss with its reason, and each note; and that nothing short of all
// is shown as 100 %.
func TestReplay(t *testing.T) {
	at := time.Date(2026, time.March, 2, 10, 0, 0, 0, time.UTC)
	machine := holdfast.NewResourceID("s", "shop", "Microsoft.Compute/virtualMachines", "web-1")
	row := sla.Row{Kind: holdfast.PointBackup, Flag: holdfast.Weekly}
	almost, half := 99.98, 50.0
	result := replay.Result{
		Until: at.Add(2 * time.Hour),
		Expectations: []replay.Expectation{
			{Expectation: sla.Expectation{Policy: "gold", Machine: machine, Row: row, Slot: at, State: sla.Missed, Reason: sla.Overlap, Ended: at.Add(time.Hour)}},
			{Expectation: sla.Expectation{Policy: "gold", Machine: machine, Row: row, Slot: at.Add(time.Hour), State: sla.Met}},
		},
		Entries: []replay.Entry{{
			Compliance: sla.Compliance{Policy: "gold", Row: row, Entry: civil.Date{Year: 2026, Month: time.March, Day: 2}, TargetPercent: 97.5, Machines: sla.Machines{Total: 7, Met: 6}, Count: sla.Count{Met: 4999, Missed: 1, Excused: 2, Open: 3}, Created: &almost, ProvenRatio: &half, Status: sla.MetSLA},
		}},
		Notes: []sla.Note{{At: at, Policy: "gold", Machine: machine, Point: "p1", Slot: at, Text: "the point meets nothing"}},
	}
	var out strings.Builder
	if err := show.Replay(&out, result); err != nil {
		t.Fatal(err)
	}
	told := strings.Join(strings.Fields(out.String()), " ")
	for _, want := range []string{
		"gold weekly backup 2026-03-02 MetSLA 99.9 % 50 % – 97.5 % 6 of 7 4999 1 2 3",
		"1 expectation was missed up to 2026-03-02 12:00:00Z.",
		"2026-03-02 11:00:00Z gold web-1 weekly backup 2026-03-02 10:00:00Z overlap note",
		"note 2026-03-02 10:00:00Z, gold, web-1, p1, slot 2026-03-02 10:00:00Z: the point meets nothing",
	} {
		if !strings.Contains(told, want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
}
