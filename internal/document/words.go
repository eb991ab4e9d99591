package document

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Words for sets of days and months.
const (
	wordEvery    = "every"
	wordWeekdays = "weekdays"
	wordWeekend  = "weekend"
)

const hoursInADay = 24

// weekdays reads a list of days and of words for several.
func (p *page) weekdays(where string, words []string) holdfast.Weekdays {
	var set holdfast.Weekdays
	for i, word := range words {
		days, ok := daysOf(word)
		if !ok {
			p.wrong(at(where, i), "monday … sunday, weekdays, weekend or every", "%q is not a day of the week", word)
			continue
		}
		if set&days != 0 {
			p.wrong(at(where, i), "each day once", "%q names a day that is named before", word)
		}
		set |= days
	}
	return set
}

func daysOf(word string) (holdfast.Weekdays, bool) {
	switch word {
	case wordEvery:
		return holdfast.EveryDay, true
	case wordWeekdays:
		return holdfast.WorkingDays, true
	case wordWeekend:
		return holdfast.WeekendDays, true
	}
	day, err := holdfast.ParseWeekday(word)
	return holdfast.WeekdaySet(day), err == nil
}

// wordsOfDays is the inverse of weekdays.
func wordsOfDays(set holdfast.Weekdays) []string {
	if set == holdfast.EveryDay {
		return []string{wordEvery}
	}
	var words []string
	if set&holdfast.WorkingDays == holdfast.WorkingDays {
		words, set = append(words, wordWeekdays), set&^holdfast.WorkingDays
	}
	weekend := set&holdfast.WeekendDays == holdfast.WeekendDays
	if weekend {
		set &^= holdfast.WeekendDays
	}
	if set != holdfast.NoWeekdays {
		words = append(words, strings.Fields(set.String())...)
	}
	if weekend {
		words = append(words, wordWeekend)
	}
	return words
}

// months reads a list of months, or the word for all.
func (p *page) months(where string, words []string) holdfast.MonthSet {
	var set holdfast.MonthSet
	for i, word := range words {
		months, ok := monthsOf(word)
		if !ok {
			p.wrong(at(where, i), "january … december or every", "%q is not a month", word)
			continue
		}
		if set&months != 0 {
			p.wrong(at(where, i), "each month once", "%q names a month that is named before", word)
		}
		set |= months
	}
	return set
}

func monthsOf(word string) (holdfast.MonthSet, bool) {
	if word == wordEvery {
		return holdfast.EveryMonth, true
	}
	month, err := holdfast.ParseMonth(word)
	return holdfast.NewMonthSet(month), err == nil
}

// wordsOfMonths is the inverse of months.
func wordsOfMonths(set holdfast.MonthSet) []string {
	switch set {
	case 0:
		return nil
	case holdfast.EveryMonth:
		return []string{wordEvery}
	}
	return strings.Fields(set.String())
}

// hours reads a list of hours of the day; the set's bit n stands for the hour n.
func (p *page) hours(where string, numbers []int) uint32 {
	var set uint32
	for i, hour := range numbers {
		switch {
		case hour < 0 || hour >= hoursInADay:
			p.wrong(at(where, i), "hours from 0 to 23", "%d is not an hour of the day", hour)
		case set&(1<<hour) != 0:
			p.wrong(at(where, i), "each hour once", "%d is named twice", hour)
		default:
			set |= 1 << hour
		}
	}
	return set
}

// timesOf returns the times of a set of hours, each hour cut into equal parts.
func timesOf(hours uint32, perHour int) []holdfast.TimeOfDay {
	var times []holdfast.TimeOfDay
	for hour := range hoursInADay {
		for part := range perHour {
			if hours&(1<<hour) != 0 {
				times = append(times, holdfast.NewTimeOfDay(hour, part*int(time.Hour/time.Minute)/perHour))
			}
		}
	}
	return times
}

// listHours names the hours of a set: 7, 9 and 11.
func listHours(hours uint32) string {
	var names []string
	for _, t := range timesOf(hours, 1) {
		names = append(names, t.String())
	}
	return list(names)
}

// list joins words for a sentence: a, b and c.
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
