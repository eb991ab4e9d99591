package retention

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/holdfast-backup/holdfast"
)

// ParsePoints reads a JSON array of points, or JSON Lines, one point after the other, from data that came from the file called name.
// The error has KindInvalid; its message begins with FILE:LINE of the point, and its field is a path such as [2].created.
func ParsePoints(name string, data []byte) ([]Point, error) {
	r := reader{name: name, data: data, decoder: json.NewDecoder(bytes.NewReader(data)), points: []Point{}, seen: make(map[string]bool)}
	r.decoder.DisallowUnknownFields()
	if bytes.HasPrefix(bytes.TrimLeft(data, blanks), []byte("[")) {
		return r.array()
	}
	return r.lines()
}

// blanks may stand between points.
const blanks = " \t\r\n"

// reader reads points, whatever stands between them.
type reader struct {
	name    string
	data    []byte
	decoder *json.Decoder
	begins  int // where the point begins that is being read
	points  []Point
	seen    map[string]bool
}

func (r *reader) array() ([]Point, error) {
	if _, err := r.decoder.Token(); err != nil {
		return nil, r.wrong(err)
	}
	for r.decoder.More() {
		if err := r.next(); err != nil {
			return nil, err
		}
	}
	if _, err := r.decoder.Token(); err != nil {
		return nil, r.wrong(err)
	}
	if _, err := r.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, r.wrong(holdfast.Errorf(holdfast.KindInvalid, "something follows the end of the list"))
	}
	return r.points, nil
}

func (r *reader) lines() ([]Point, error) {
	for {
		err := r.next()
		if errors.Is(err, io.EOF) {
			return r.points, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

// next reads one point. What a file does not say of a point is that it is bad.
func (r *reader) next() error {
	before := int(r.decoder.InputOffset())
	r.begins = len(r.data) - len(bytes.TrimLeft(r.data[before:], blanks+","))
	p := Point{Good: true}
	err := r.decoder.Decode(&p)
	if errors.Is(err, io.EOF) {
		return err
	}
	if err == nil {
		err = p.check()
	}
	if key := strings.Join([]string{p.VM.Key(), string(p.Kind), p.Repository, string(p.ID)}, "\x00"); err == nil {
		if r.seen[key] {
			err = holdfast.Errorf(holdfast.KindInvalid, "restore point %s is in the list twice", p.ID).WithField("id")
		}
		r.seen[key] = true
	}
	if err != nil {
		return r.wrong(err)
	}
	r.points = append(r.points, p.inUTC())
	return nil
}

// wrong says where a mistake is.
func (r *reader) wrong(cause error) error {
	e := mistake(cause)
	if e.Field != "" {
		e.Field = fmt.Sprintf("[%d].%s", len(r.points), e.Field)
	}
	if e.Hint == "" {
		e.Hint = "every point has at least id, vm, kind and created, and the policy that made it or manual"
	}
	line := 1 + bytes.Count(r.data[:r.begins], []byte("\n"))
	e.Message = fmt.Sprintf("%s:%d: %s", r.name, line, e.Message)
	return &e
}

// mistake says in our words what a decoder found.
func mistake(cause error) holdfast.Error {
	var known *holdfast.Error
	var wrongType *json.UnmarshalTypeError
	var noTime *time.ParseError
	switch {
	case errors.As(cause, &known):
		return *known
	case errors.As(cause, &wrongType) && wrongType.Field == "":
		return *holdfast.Errorf(holdfast.KindInvalid, "a restore point is an object, not a %s", wrongType.Value)
	case errors.As(cause, &wrongType):
		return *holdfast.Errorf(holdfast.KindInvalid, "%s is a %s", wrongType.Field, wrongType.Value).WithField(wrongType.Field).
			WithHint("texts and times stand in quotation marks; good, manual, base, temporary and outdated are true or false")
	case errors.As(cause, &noTime):
		return *holdfast.Errorf(holdfast.KindInvalid, "%q is not a moment", strings.Trim(noTime.Value, `"`)).WithHint("write it with its zone, such as 2026-05-01T00:15:00Z")
	case errors.Is(cause, io.ErrUnexpectedEOF), errors.Is(cause, io.EOF):
		return *holdfast.Errorf(holdfast.KindInvalid, "the list breaks off")
	}
	return *holdfast.Errorf(holdfast.KindInvalid, "%s", strings.TrimPrefix(cause.Error(), "json: "))
}

// check refuses what can be no point, and what says two things at once.
func (p Point) check() error {
	switch {
	case p.ID == "":
		return missing("id")
	case p.VM == "":
		return missing("vm")
	case p.Created.IsZero():
		return missing("created")
	case p.Policy == "" && !p.Manual:
		return holdfast.Errorf(holdfast.KindInvalid, "restore point %s says neither which policy made it nor that it was made by hand", p.ID).WithField("policy").
			WithHint(`write "policy" with a name, or "manual": true`)
	case (p.Manual || p.Temporary) && p.Flags != 0:
		return holdfast.Errorf(holdfast.KindInvalid, "restore point %s bears flags, which points that are made by hand or for a session alone do not", p.ID).WithField("flags")
	case p.Base && p.Kind != holdfast.PointSnapshot:
		return holdfast.Errorf(holdfast.KindInvalid, "restore point %s is no snapshot, and nothing else is the base of changed ranges", p.ID).WithField("base")
	}
	for _, text := range [...]struct{ field, value string }{
		{"id", string(p.ID)}, {"vm", string(p.VM)}, {"policy", p.Policy}, {"repository", p.Repository}, {"region", p.Region},
	} {
		if strings.ContainsFunc(text.value, func(r rune) bool { return !unicode.IsPrint(r) }) {
			return holdfast.Errorf(holdfast.KindInvalid, "%s is %q, which cannot be printed", text.field, text.value).WithField(text.field)
		}
	}
	switch p.Kind {
	case holdfast.PointSnapshot, holdfast.PointBackup, holdfast.PointArchive:
		return nil
	}
	return holdfast.Errorf(holdfast.KindInvalid, "%q is no kind of restore point", p.Kind).WithField("kind").WithHint("write snapshot, backup or archive")
}

func missing(field string) error {
	return holdfast.Errorf(holdfast.KindInvalid, "%s is missing", field).WithField(field)
}

// Machines divides points by their machine, in the order of the machines' ids. ARM ids are compared without regard to case.
func Machines(points []Point) [][]Point {
	byKey := make(map[string][]Point)
	for _, p := range points {
		byKey[p.VM.Key()] = append(byKey[p.VM.Key()], p)
	}
	keys := make([]string, 0, len(byKey))
	for key := range byKey {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	machines := make([][]Point, len(keys))
	for i, key := range keys {
		machines[i] = byKey[key]
	}
	return machines
}

// Latest returns the newest of a machine's points that a policy made; the zero Point when none did. By the points alone its
// policy is the one that protects the machine.
func Latest(points []Point) Point {
	var latest Point
	for _, p := range points {
		if p.Policy != "" && (latest.Policy == "" || latest.compare(p) < 0) {
			latest = p
		}
	}
	return latest
}
