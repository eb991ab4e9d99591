package notify

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// stamp tells an instant with its offset, so that it means the same to whoever reads it.
func stamp(t time.Time, zone *time.Location) string {
	if t.IsZero() {
		return "–"
	}
	return t.In(zone).Format("2006-01-02 15:04 -07:00")
}

// took tells a duration by its two largest units.
func took(from, to time.Time) string {
	if from.IsZero() || to.IsZero() || to.Before(from) {
		return "–"
	}
	d := to.Sub(from).Round(time.Second)
	days, hours, minutes, seconds := int(d.Hours())/24, int(d.Hours())%24, int(d.Minutes())%60, int(d.Seconds())%60
	switch {
	case days > 0:
		return fmt.Sprintf("%d d %d h", days, hours)
	case hours > 0:
		return fmt.Sprintf("%d h %d min", hours, minutes)
	case minutes > 0:
		return fmt.Sprintf("%d min %d s", minutes, seconds)
	}
	return fmt.Sprintf("%d s", seconds)
}

// size tells bytes with three digits.
func size(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n), ""
	for _, unit = range []string{"KiB", "MiB", "GiB", "TiB", "PiB"} {
		if value /= 1 << 10; value < 1000 {
			break
		}
	}
	digits := 0
	switch {
	case value < 9.995:
		digits = 2
	case value < 99.95:
		digits = 1
	}
	return strconv.FormatFloat(value, 'f', digits, 64) + " " + unit
}

// count tells a number of things: 1 machine, 2 machines.
func count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// plain keeps texts from elsewhere from obeying anything: one line, without what cannot be seen.
func plain(text string) string {
	text = strings.ToValidUTF8(text, "\ufffd")
	return strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, text)), " ")
}

// percent tells a ratio, rounded down: 99.99 of 100 is not all of it.
func percent(ratio *float64) string {
	if ratio == nil {
		return "–"
	}
	tenths := int(*ratio*10 + 1e-9)
	if tenths%10 == 0 {
		return strconv.Itoa(tenths/10) + " %"
	}
	return fmt.Sprintf("%d.%d %%", tenths/10, tenths%10)
}

// result is the word of an outcome in subjects and bodies.
func result(o holdfast.Outcome) string {
	switch o {
	case holdfast.OutcomeSuccess:
		return "Success"
	case holdfast.OutcomeWarning:
		return "Warning"
	case holdfast.OutcomeError:
		return "Failed"
	case holdfast.OutcomeStopped:
		return "Stopped"
	}
	return "Unknown"
}

func toneOf(o holdfast.Outcome) tone {
	switch o {
	case holdfast.OutcomeSuccess:
		return toneGood
	case holdfast.OutcomeWarning:
		return toneWarning
	case holdfast.OutcomeError:
		return toneBad
	case holdfast.OutcomeStopped:
	}
	return toneNeutral
}

// kindOf names a session by what it makes: snapshot, backup and archive.
func kindOf(s holdfast.Session) string {
	switch s.Type {
	case holdfast.SessionPolicy, holdfast.SessionSnapshot:
	case holdfast.SessionHealthCheck:
		return "health check"
	case holdfast.SessionRetention:
		return "retention"
	case holdfast.SessionRemoval:
		return "removal"
	}
	var kinds []string
	for _, m := range s.Makes {
		kinds = append(kinds, string(m.Kind))
	}
	if len(kinds) == 0 {
		return "session"
	}
	if last := len(kinds) - 1; last > 0 {
		return strings.Join(kinds[:last], ", ") + " and " + kinds[last]
	}
	return kinds[0]
}

// reasons says in a sentence why a slot was missed.
var reasons = map[sla.Reason]string{
	sla.NotRunning: "Holdfast was not running",
	sla.Overlap:    "the backup before it was still running",
	sla.Failed:     "its session failed, and no retry succeeded in time",
	sla.Late:       "its session was still at work at the deadline",
	sla.NoPoint:    "nothing was started for it",
}

// capital writes the first letter large.
func capital(text string) string {
	first, length := utf8.DecodeRuneInString(text)
	if length == 0 {
		return ""
	}
	return string(unicode.ToUpper(first)) + text[length:]
}

// sentence makes a sentence of what a part of Holdfast says of a machine.
func sentence(text string) string {
	text = capital(plain(text))
	if text == "" || strings.ContainsRune(".!?…", rune(text[len(text)-1])) {
		return text
	}
	return text + "."
}
