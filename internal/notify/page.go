package notify

import (
	_ "embed"
	"fmt"
	"html/template"
	"strings"
	"unicode/utf8"

	"github.com/holdfast-backup/holdfast"
)

// page is what a message says; text and HTML are made of it alone, so that neither says more than the other.
type page struct {
	tone    tone
	label   string // the verdict in a word
	title   string
	lead    string
	facts   []fact
	remarks []string
	tables  []table
	zone    string
}

type fact struct{ name, value string }

// table lists things of one sort. The first column is the name of a row, with its verdict, place and notes.
type table struct {
	title   string
	columns []string
	rows    []row
	more    int // how many rows are left out
}

type row struct {
	tone  tone
	label string
	name  string
	place string
	cells []string // of the columns after the first
	notes []string
}

// tone is what colour a verdict has; its word says the same to whoever does not see it.
type tone string

const (
	toneGood    tone = "good"
	toneWarning tone = "warning"
	toneBad     tone = "bad"
	toneNeutral tone = "neutral"
)

// Strong is the colour of a surface with white text on it, with a contrast of at least 4.5 to 1.
func (t tone) Strong() string {
	switch t {
	case toneGood:
		return "#17693f"
	case toneWarning:
		return "#8a5300"
	case toneBad:
		return "#b3261e"
	case toneNeutral:
	}
	return "#3b4a5f"
}

// Soft is the colour of a surface with dark text of Strong on it.
func (t tone) Soft() string {
	switch t {
	case toneGood:
		return "#e3f4ea"
	case toneWarning:
		return "#fdf0d9"
	case toneBad:
		return "#fdeceb"
	case toneNeutral:
	}
	return "#e9edf3"
}

//go:embed mail.html
var markup string

var htmlPage = template.Must(template.New("mail").Parse(markup))

// The view of a page for its template, which can read exported names alone.
type (
	view struct {
		Tone               tone
		Label, Title, Lead string
		Facts              [][]factView // in lines of factsAside
		Remarks            []string
		Tables             []tableView
		Footer             string
	}
	factView  struct{ Name, Value string }
	tableView struct {
		Title string
		First string
		Rest  []string
		Rows  []rowView
		More  string
		Span  int
	}
	rowView struct {
		Tone               tone
		Label, Name, Place string
		Cells              []factView
		Notes              []string
	}
)

// factsAside is how many facts stand side by side.
const factsAside = 3

func (p page) html() (string, error) {
	v := view{Tone: p.tone, Label: p.label, Title: p.title, Lead: p.lead, Remarks: p.remarks, Footer: p.footer()}
	for i, f := range p.facts {
		if i%factsAside == 0 {
			v.Facts = append(v.Facts, nil)
		}
		last := len(v.Facts) - 1
		v.Facts[last] = append(v.Facts[last], factView{f.name, f.value})
	}
	for _, t := range p.tables {
		v.Tables = append(v.Tables, t.view())
	}
	var b strings.Builder
	if err := htmlPage.Execute(&b, v); err != nil {
		return "", holdfast.Wrap(holdfast.KindInternal, err, "the message %q cannot be laid out", p.title)
	}
	return b.String(), nil
}

func (t table) view() tableView {
	v := tableView{Title: t.title, First: t.columns[0], Rest: t.columns[1:], More: t.left(), Span: len(t.columns)}
	for _, r := range t.rows {
		line := rowView{Tone: r.tone, Label: r.label, Name: r.name, Place: r.place, Notes: r.notes}
		for i, cell := range r.cells {
			line.Cells = append(line.Cells, factView{v.Rest[i], cell})
		}
		v.Rows = append(v.Rows, line)
	}
	return v
}

func (t table) left() string {
	if t.more == 0 {
		return ""
	}
	return fmt.Sprintf("%d more are not listed.", t.more)
}

func (p page) footer() string {
	return "Sent by Holdfast. Times are those of " + p.zone + "; their offset from UTC stands with them."
}

// text lays the page out for whoever reads mail without markup.
func (p page) text() string {
	var b strings.Builder
	heading := strings.ToUpper(p.label) + ": " + p.title
	fmt.Fprintf(&b, "%s\n%s\n\n%s\n", heading, strings.Repeat("=", min(utf8.RuneCountInString(heading), 72)), p.lead)
	for _, remark := range p.remarks {
		fmt.Fprintf(&b, "\n%s\n", remark)
	}
	width := 0
	for _, f := range p.facts {
		width = max(width, utf8.RuneCountInString(f.name))
	}
	for i, f := range p.facts {
		if i == 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s:%s %s\n", f.name, strings.Repeat(" ", width-utf8.RuneCountInString(f.name)), f.value)
	}
	for _, t := range p.tables {
		t.text(&b)
	}
	fmt.Fprintf(&b, "\n-- \n%s\n", p.footer())
	return b.String()
}

func (t table) text(b *strings.Builder) {
	fmt.Fprintf(b, "\n%s\n%s\n", t.title, strings.Repeat("-", utf8.RuneCountInString(t.title)))
	for _, r := range t.rows {
		b.WriteByte('\n')
		if r.label != "" {
			fmt.Fprintf(b, "[%s] ", r.label)
		}
		b.WriteString(r.name)
		if r.place != "" {
			fmt.Fprintf(b, " (%s)", r.place)
		}
		b.WriteByte('\n')
		var cells []string
		for i, cell := range r.cells {
			cells = append(cells, strings.ToLower(t.columns[i+1])+" "+cell)
		}
		fmt.Fprintf(b, "  %s\n", capital(strings.Join(cells, ", ")))
		for _, note := range r.notes {
			fmt.Fprintf(b, "  %s\n", note)
		}
	}
	if left := t.left(); left != "" {
		fmt.Fprintf(b, "\n%s\n", left)
	}
}
