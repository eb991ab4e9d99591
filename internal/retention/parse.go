package retention

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// ParsePoints reads a JSON array of points, or JSON Lines: one point after the other. The error has KindInvalid and names the point,
// by its number from 1 on and its line.
func ParsePoints(data []byte) ([]Point, error) {
	r := reader{points: []Point{}, data: data, decoder: json.NewDecoder(bytes.NewReader(data)), seen: make(map[string]bool)}
	r.decoder.DisallowUnknownFields()
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("[")) {
		return r.array()
	}
	return r.lines()
}

// reader reads points, whatever stands between them.
type reader struct {
	data    []byte
	decoder *json.Decoder
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
			err = holdfast.Errorf(holdfast.KindInvalid, "%s is in the list twice", p.ID).WithField("id")
		}
		r.seen[key] = true
	}
	if err != nil {
		return r.wrong(err)
	}
	r.points = append(r.points, p)
	return nil
}

// wrong says where a mistake is.
func (r *reader) wrong(err error) error {
	hint := "every point has at least id, vm, kind and created, and the policy that made it or manual"
	var known *holdfast.Error
	field := ""
	text := strings.TrimPrefix(err.Error(), "json: ")
	if errors.As(err, &known) {
		text, field = known.Message, known.Field
		if known.Hint != "" {
			hint = known.Hint
		}
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		text = "the list breaks off"
	}
	line := 1 + bytes.Count(r.data[:min(r.decoder.InputOffset(), int64(len(r.data)))], []byte("\n"))
	return holdfast.Errorf(holdfast.KindInvalid, "restore point %d, line %d: %s", len(r.points)+1, line, text).WithHint("%s", hint).WithField(field)
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
		return holdfast.Errorf(holdfast.KindInvalid, "%s says neither which policy made it nor that it was made by hand", p.ID).WithField("policy").
			WithHint(`write "policy" with a name, or "manual": true`)
	case (p.Manual || p.Temporary) && p.Flags != 0:
		return holdfast.Errorf(holdfast.KindInvalid, "%s bears flags, which points that are made by hand or for a session alone do not", p.ID).WithField("flags")
	case p.Base && p.Kind != holdfast.PointSnapshot:
		return holdfast.Errorf(holdfast.KindInvalid, "%s is no snapshot, and nothing else is the base of changed ranges", p.ID).WithField("base")
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

// PolicyOf names the policy that made the newest of a machine's points; "" when no policy made any. By the points alone it is the
// one that protects the machine.
func PolicyOf(points []Point) string {
	var newest Point
	for _, p := range points {
		if p.Policy != "" && (newest.Policy == "" || newest.compare(p) < 0) {
			newest = p
		}
	}
	return newest.Policy
}
