package schedule_test

import (
	"slices"
	"testing"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
	"github.com/holdfast-backup/holdfast/internal/schedule"
)

// TestSlots_Catalogue counts the slots of the worked examples in §7.4 of the reference catalogue: the end of a window is
// not part of it.
func TestSlots_Catalogue(t *testing.T) {
	for _, c := range []struct {
		window string
		every  holdfast.Period
		want   []string
	}{
		{"10:00-13:00", holdfast.Hours(1), []string{"10:00", "11:00", "12:00"}},
		{"10:00-13:05", holdfast.Hours(1), []string{"10:00", "11:00", "12:00", "13:00"}},
		{"10:00-14:00", holdfast.Hours(2), []string{"10:00", "12:00"}},
		{"10:00-18:00", holdfast.Hours(1), []string{"10:00", "11:00", "12:00", "13:00", "14:00", "15:00", "16:00", "17:00"}},
		{"00:00-00:00", holdfast.Hours(8), []string{"00:00", "08:00", "16:00"}},
		{"22:00-06:00", holdfast.Hours(3), []string{"22:00", "01:00", "04:00"}},
		{"09:15-09:15", holdfast.Hours(24), []string{"09:15"}},
		{"09:15-09:16", holdfast.Minutes(5), []string{"09:15"}},
	} {
		day := date(2026, time.May, 5)
		template := holdfast.SLATemplate{
			SnapshotWindow: window(t, c.window),
			Rows:           []holdfast.SLARow{{Flag: holdfast.Daily, Kind: holdfast.PointSnapshot, Every: c.every}},
		}
		var got []string
		for s := range schedule.Slots(template, time.UTC, civil.Begin(day, time.UTC), civil.Begin(day.AddDays(2), time.UTC)) {
			if s.Day == day {
				got = append(got, s.At.Format("15:04"))
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s in %s: %v, not %v", c.every, c.window, got, c.want)
		}
	}
}

func window(t *testing.T, text string) holdfast.Window {
	t.Helper()
	var w holdfast.Window
	if err := w.Opens.UnmarshalText([]byte(text[:5])); err != nil {
		t.Fatal(err)
	}
	if err := w.Closes.UnmarshalText([]byte(text[6:])); err != nil {
		t.Fatal(err)
	}
	return w
}

func date(year int, month time.Month, day int) civil.Date {
	return civil.Date{Year: year, Month: month, Day: day}
}
