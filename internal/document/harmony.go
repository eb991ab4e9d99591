package document

import (
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// noteSingles notes where the slots of a schedule are none of a more frequent one: a point that both would share is then made
// twice. Nothing is wrong with that, but it is seldom meant. Times are not moved by themselves, as a person would not find them
// again.
func (p *page) noteSingles(rows []holdfast.ScheduleRow) {
	for _, row := range rows {
		if row.Kind == holdfast.PointArchive {
			p.noteArchive(rows, row)
			continue
		}
		var frequent []string
		covered := false
		for _, other := range rows {
			if other.Kind == row.Kind && other.Flag < row.Flag {
				frequent = append(frequent, other.Flag.String())
				covered = covered || covers(other.When, row.When)
			}
		}
		if !covered && len(frequent) > 0 {
			p.note(blockOf(row), "not every one of these slots is a slot of the %s %ss as well: what is made then is a point of its own, which bears this flag alone",
				strings.Join(frequent, " or "), row.Kind)
		}
	}
}

// noteArchive notes where an archive may be made on a day without a backup of a more frequent schedule.
func (p *page) noteArchive(rows []holdfast.ScheduleRow, archive holdfast.ScheduleRow) {
	onDate := archive.When
	onDate.Times = nil
	for _, row := range rows {
		if row.Kind == holdfast.PointBackup && row.Flag < archive.Flag && covers(row.When, onDate) {
			return
		}
	}
	p.note(blockOf(archive), "not every one of these days has a backup of its own: on the others the newest backup is archived, whatever its age")
}

// covers reports whether each slot of one calendar is a slot of another one, whatever the year.
func covers(wide, narrow holdfast.Calendar) bool {
	for _, t := range narrow.Times {
		if !slices.Contains(wide.Times, t) {
			return false
		}
	}
	return coversDays(wide, narrow) && coversMonths(wide.Months, narrow.Months) && (wide.On.IsZero() || wide.On == narrow.On)
}

func coversDays(wide, narrow holdfast.Calendar) bool {
	days := holdfast.EveryDay
	switch {
	case narrow.Days != holdfast.NoWeekdays:
		days = narrow.Days
	case narrow.On.Ordinal != "":
		days = holdfast.WeekdaySet(narrow.On.Weekday)
	}
	return wide.Days == holdfast.NoWeekdays || days&^wide.Days == 0
}

func coversMonths(wide, narrow holdfast.MonthSet) bool {
	if narrow == 0 {
		narrow = holdfast.EveryMonth
	}
	return wide == 0 || narrow&^wide == 0
}
