package document

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"unicode"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

// Read reads the documents of files as one set. The error is Mistakes; the notes are there with it, as far as they are
// known. Where no document says otherwise, the installation has its defaults.
func Read(files ...File) (holdfast.Documents, []Note, error) { return newReader().read(files) }

func newReader() *reader { return &reader{names: map[string]map[string]*page{}} }

func (r *reader) read(files []File) (holdfast.Documents, []Note, error) {
	for _, file := range files {
		r.readFile(file)
	}
	documents := r.documents()
	r.checkTogether(documents)
	if len(r.mistakes) > 0 {
		slices.SortStableFunc(r.mistakes, func(a, b mistake) int {
			return cmp.Or(cmp.Compare(a.file, b.file), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		all := make(Mistakes, 0, len(r.mistakes))
		for _, m := range r.mistakes[:min(len(r.mistakes), mistakesMax)] {
			all = append(all, m.Mistake)
		}
		return holdfast.Documents{}, r.notes, all
	}
	return documents, r.notes, nil
}

// reader gathers what the files of a set hold.
type reader struct {
	mistakes []mistake
	notes    []Note
	files    int
	names    map[string]map[string]*page // by kind and name: every document that has a name, well-formed or not

	inForce  map[Name]int // the priorities of policies that the files are read over; nil where there are none
	proposed int          // how many files are read over those in force

	installationPage *page
	installation     *entry[holdfast.Installation]
	schedulePolicies []entry[holdfast.SchedulePolicy]
	slaPolicies      []entry[holdfast.SLAPolicy]
	slaTemplates     []entry[holdfast.SLATemplate]
	storageTemplates []entry[holdfast.StorageTemplate]
	repositories     []entry[holdfast.RepositorySpec]
}

// mistake is a mistake and the place of its file among the files.
type mistake struct {
	strictyaml.Mistake
	file int
}

// entry is a noun and the page that it was read from.
type entry[T any] struct {
	page *page
	noun T
}

// page is one document while it is read: what is wrong with it, and worth a note, is told through it.
type page struct {
	*strictyaml.Document
	reader *reader
	file   int
	folder string
	kind   string
	name   string
	broken bool // a mistake was found
	// misshapen are the fields that could not be read. Whatever is found at or around one of them later is only the
	// consequence, and is not told.
	misshapen []string
}

// wrong takes down a mistake at the field at path. It says what is accepted.
func (p *page) wrong(path, accepted, format string, args ...any) {
	m := p.Mistake(path, format, args...)
	m.Hint = accepted
	p.add(m)
}

func (p *page) add(m strictyaml.Mistake) {
	p.broken = true
	if slices.ContainsFunc(p.misshapen, func(field string) bool { return related(m.Field, field) }) {
		return
	}
	p.reader.mistakes = append(p.reader.mistakes, mistake{m, p.file})
}

// related reports whether one of two fields is, or holds, the other one.
func related(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	rest, inside := strings.CutPrefix(b, a)
	return inside && (a == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// refuse takes down the error of a parser of ours, which says itself what is accepted.
func (p *page) refuse(path string, err error) {
	m := p.Mistake(path, "%s", err)
	if e, ok := err.(*holdfast.Error); ok { //nolint:errorlint // our parsers return theirs bare
		m.Hint = e.Hint
	}
	p.add(m)
}

func (p *page) note(path, format string, args ...any) { p.tell(LevelNote, path, format, args...) }

func (p *page) warning(path, format string, args ...any) { p.tell(LevelWarning, path, format, args...) }

func (p *page) tell(level Level, path, format string, args ...any) {
	if len(p.misshapen) > 0 {
		return // it may be about what could not be read
	}
	m := p.Mistake(path, format, args...)
	p.reader.notes = append(p.reader.notes, Note{
		Level: level, File: m.File, Line: m.Line, Column: m.Column, Kind: p.kind, Name: p.name, Field: path, Text: m.Text,
	})
}

// place says where the document begins: FILE:LINE.
func (p *page) place() string {
	m := p.Mistake("kind", "")
	return fmt.Sprintf("%s:%d", m.File, m.Line)
}

// at resolves a path of the machine's file system, which begins at the document's folder when it is relative.
func (p *page) at(path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(p.folder, path)
}

func (r *reader) readFile(file File) {
	r.files++
	parts, wrong := strictyaml.Split(file.Name, file.Data)
	if wrong != nil {
		r.mistakes = append(r.mistakes, mistake{*wrong, r.files})
		return
	}
	folder := file.Folder
	if folder == "" {
		folder = filepath.Dir(file.Name)
	}
	for _, part := range parts {
		r.readPart(part, folder)
	}
}

const kindsAccepted = KindSchedulePolicy + ", " + KindSLAPolicy + ", " + KindSLATemplate + ", " + KindStorageTemplate + ", " +
	KindRepository + " or " + KindInstallation

func (r *reader) readPart(part strictyaml.Part, folder string) {
	kind, outline := part.Text("kind")
	p := &page{Document: outline, reader: r, file: r.files, folder: folder, kind: kind}
	switch kind {
	case KindSchedulePolicy:
		into(&r.schedulePolicies, p, part, (*page).schedulePolicy)
	case KindSLAPolicy:
		into(&r.slaPolicies, p, part, (*page).slaPolicy)
	case KindSLATemplate:
		into(&r.slaTemplates, p, part, (*page).slaTemplate)
	case KindStorageTemplate:
		into(&r.storageTemplates, p, part, (*page).storageTemplate)
	case KindRepository:
		into(&r.repositories, p, part, (*page).repository)
	case KindInstallation:
		r.readInstallation(p, part)
	case "":
		p.wrong("kind", "write kind: and one of "+kindsAccepted, "missing")
	default:
		p.wrong("kind", "write one of "+kindsAccepted, "%q is not a kind of document", kind)
	}
}

// into reads a part into the fields of its kind, makes the noun out of them, and adds it to a list. Whatever has a name is
// known by it afterwards, so that a mistake in a document is not followed by one in each document that names it.
func into[F, T any](list *[]entry[T], p *page, part strictyaml.Part, build func(*page, F) T) {
	fields, ok := decode[F](p, part)
	p.name, _ = part.Text("name")
	p.reader.remember(p)
	if noun := build(p, fields); ok && !p.broken {
		*list = append(*list, entry[T]{p, noun})
	}
}

// decode reads a part into the fields of its kind; it returns false when its shape is wrong.
func decode[F any](p *page, part strictyaml.Part) (F, bool) {
	var fields F
	document, mistakes := part.Decode(&fields)
	p.Document = document
	for _, m := range mistakes {
		p.add(withHint(p.kind, m))
	}
	for _, m := range mistakes {
		p.misshapen = append(p.misshapen, m.Field)
	}
	return fields, len(mistakes) == 0
}

// secretNames are fields in which people might look for a place to write a secret.
var secretNames = []string{
	"password", "passphrase", "secret", "clientSecret", "accountKey", "connectionString", "sas", "sasToken", "token", "recoveryCode", "key",
}

// withHint says where a secret belongs, where somebody wrote one; and of other mistakes in the shape what the field means.
func withHint(kind string, m strictyaml.Mistake) strictyaml.Mistake {
	last := m.Field[strings.LastIndexByte(m.Field, '.')+1:]
	if m.Text == "unknown field" && slices.ContainsFunc(secretNames, func(name string) bool { return strings.EqualFold(name, last) }) {
		m.Text = "a secret never stands in a document"
		m.Hint = "write passwordFrom, or secretFrom of a webhook, with file, environment or vaultSecret: where the secret is found; or vaultKey for a repository that a vault opens"
	}
	if m.Hint == "" {
		m.Hint = meaning(kind, m.Field)
	}
	return m
}

// remember takes down a document's name and refuses one that is taken, or no name.
func (r *reader) remember(p *page) {
	if p.name == "" {
		return // the shape of the document says so
	}
	p.checkName()
	for _, kind := range sharing(p.kind) {
		if other := r.names[kind][p.name]; other != nil {
			p.wrong("name", "another name", "%q is taken by the %s at %s", p.name, kind, other.place())
			return
		}
	}
	if r.names[p.kind] == nil {
		r.names[p.kind] = map[string]*page{}
	}
	r.names[p.kind][p.name] = p
}

// sharing returns the kinds that share names with a kind: machines ask for a policy by name, whatever its kind.
func sharing(kind string) []string {
	if kind == KindSchedulePolicy || kind == KindSLAPolicy {
		return []string{KindSchedulePolicy, KindSLAPolicy}
	}
	return []string{kind}
}

const (
	nameMax       = 255
	nameForbidden = `/\"':|<>+=;,?!*%#^@&$.`
)

func (p *page) checkName() {
	accepted := "1 to 255 characters without a space at either end and without any of " + strings.Join(strings.Split(nameForbidden, ""), " ")
	switch i := strings.IndexAny(p.name, nameForbidden); {
	case i >= 0:
		p.wrong("name", accepted, "%q holds a character that names may not have: %c", p.name, p.name[i])
	case len([]rune(p.name)) > nameMax:
		p.wrong("name", accepted, "has %d characters", len([]rune(p.name)))
	case strings.TrimSpace(p.name) != p.name || strings.ContainsFunc(p.name, unseen):
		p.wrong("name", accepted, "%q begins or ends with a space, or holds a character that cannot be seen", p.name)
	}
}

// unseen reports whether a character has no look of its own: those that control a terminal, or turn the writing around.
func unseen(r rune) bool { return !unicode.IsGraphic(r) }

// documents puts what was read together, policies by priority.
func (r *reader) documents() holdfast.Documents {
	d := holdfast.Documents{
		Installation:     defaultInstallation(),
		SLATemplates:     nouns(r.slaTemplates),
		StorageTemplates: nouns(r.storageTemplates),
		Repositories:     nouns(r.repositories),
	}
	if r.installation != nil {
		d.Installation = r.installation.noun
	}
	orderByPriority(r, r.schedulePolicies, func(n *holdfast.SchedulePolicy) *holdfast.PolicyCommon { return &n.PolicyCommon })
	orderByPriority(r, r.slaPolicies, func(n *holdfast.SLAPolicy) *holdfast.PolicyCommon { return &n.PolicyCommon })
	d.SchedulePolicies, d.SLAPolicies = nouns(r.schedulePolicies), nouns(r.slaPolicies)
	return d
}

func (p *page) samePriority(priority int, other *page) {
	p.wrong("priority", "give each policy of a kind a number of its own; 1 goes first", "%d is the priority of %q already", priority, other.name)
}

func nouns[T any](entries []entry[T]) []T {
	var all []T
	for _, e := range entries {
		all = append(all, e.noun)
	}
	return all
}

// orderByPriority sorts policies of a kind by their priorities; when they have none, their order is their priority.
func orderByPriority[T any](r *reader, entries []entry[T], common func(*T) *holdfast.PolicyCommon) {
	if r.inForce != nil {
		placeAmong(r, entries, common)
	}
	const allOrNone = "give every policy of a kind a priority, or none: then the order of the files is theirs"
	taken := map[int]*page{}
	explicit := len(entries) > 0 && common(&entries[0].noun).Priority != 0
	for i := range entries {
		p, c := entries[i].page, common(&entries[i].noun)
		switch given := c.Priority != 0; {
		case given && !explicit:
			p.wrong("priority", allOrNone, "given, while %q has none", entries[0].page.name)
		case !given && explicit:
			p.wrong("priority", allOrNone, "missing, while %q has one", entries[0].page.name)
		case given && taken[c.Priority] != nil:
			p.samePriority(c.Priority, taken[c.Priority])
		}
		if !explicit {
			c.Priority = i + 1
		}
		taken[c.Priority] = p
	}
	slices.SortStableFunc(entries, func(a, b entry[T]) int {
		return cmp.Compare(common(&a.noun).Priority, common(&b.noun).Priority)
	})
}
