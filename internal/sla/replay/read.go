package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// lineBytesMax bounds a line. The longest event names the regions of a policy, of which there are less than a hundred.
const lineBytesMax = 64 << 10

// shape says which fields an event has beside event and at.
type shape struct {
	required []string
	optional []string
	make     func(f *fields) sla.Event
}

// shapes is the closed list of events, by name. A policy's version is completed from the documents later.
var shapes = map[string]shape{
	"policyInForce":  {[]string{"policy"}, []string{"version", "template", "templateVersion", "regions"}, nil},
	"policyEnabled":  {[]string{"policy"}, nil, func(f *fields) sla.Event { return sla.PolicyEnabled{At: f.at(), Policy: f.text("policy")} }},
	"policyDisabled": {[]string{"policy"}, nil, func(f *fields) sla.Event { return sla.PolicyDisabled{At: f.at(), Policy: f.text("policy")} }},
	"policyRemoved":  {[]string{"policy"}, nil, func(f *fields) sla.Event { return sla.PolicyRemoved{At: f.at(), Policy: f.text("policy")} }},
	"machineJoined": {[]string{"policy", "machine", "region"}, nil, func(f *fields) sla.Event {
		return sla.MachineJoined{At: f.at(), Policy: f.text("policy"), Machine: f.machine(), Region: f.text("region")}
	}},
	"machineLeft": {[]string{"policy", "machine"}, nil, func(f *fields) sla.Event {
		return sla.MachineLeft{At: f.at(), Policy: f.text("policy"), Machine: f.machine()}
	}},
	"serverStopped":  {nil, nil, func(f *fields) sla.Event { return sla.ServerStopped{At: f.at()} }},
	"serverStarted":  {nil, nil, func(f *fields) sla.Event { return sla.ServerStarted{At: f.at()} }},
	"timePassed":     {nil, nil, func(f *fields) sla.Event { return sla.TimePassed{At: f.at()} }},
	"sessionStarted": {work(), nil, func(f *fields) sla.Event { return sla.SessionStarted{At: f.at(), Work: f.work()} }},
	"sessionFailed":  {work(), nil, func(f *fields) sla.Event { return sla.SessionFailed{At: f.at(), Work: f.work()} }},
	"sessionSkipped": {work(), nil, func(f *fields) sla.Event { return sla.SessionSkipped{At: f.at(), Work: f.work()} }},
	"pointDurable": {append(work(), "point"), nil, func(f *fields) sla.Event {
		return sla.PointDurable{At: f.at(), Work: f.work(), Point: holdfast.PointID(f.text("point"))}
	}},
	"pointProven": {[]string{"point", "level", "ok"}, []string{"proved"}, func(f *fields) sla.Event {
		return sla.PointProven{At: f.at(), Point: holdfast.PointID(f.text("point")), Level: f.number("level"), OK: f.truth("ok"), Proved: f.instant("proved")}
	}},
	"pointRemoved": {[]string{"point"}, nil, func(f *fields) sla.Event {
		return sla.PointRemoved{At: f.at(), Point: holdfast.PointID(f.text("point"))}
	}},
}

// work are the fields that name the share of a machine in a session.
func work() []string { return []string{"policy", "machine", "kind", "slot"} }

// edit is an event policyInForce as it is written: what it leaves out comes from the documents.
type edit struct {
	at                       time.Time
	policy, template         string
	version, templateVersion int
	regions                  []string
}

// line is an event as it is written: one of the two.
type line struct {
	event sla.Event
	edit  *edit
}

// lines yields the events of a file. After the first error, which names the line, there is nothing more.
func lines(r io.Reader) iter.Seq2[line, error] {
	return func(yield func(line, error) bool) {
		scanner := bufio.NewScanner(r)
		scanner.Buffer(nil, lineBytesMax)
		n := 0
		for scanner.Scan() {
			n++
			l, err := parse(scanner.Bytes())
			if !yield(l, inLine(n, err)) || err != nil {
				return
			}
		}
		switch err := scanner.Err(); {
		case errors.Is(err, bufio.ErrTooLong):
			yield(line{}, inLine(n+1, holdfast.Errorf(holdfast.KindInvalid, "it is longer than %d bytes", lineBytesMax).WithHint("write an event on each line")))
		case err != nil:
			yield(line{}, holdfast.Wrap(holdfast.KindUnavailable, err, "the events cannot be read").WithField("events").WithHint("see whether the file can be read"))
		}
	}
}

// inLine says of an error in which line of the events it is.
func inLine(n int, err error) error {
	var e *holdfast.Error
	if !errors.As(err, &e) {
		return err
	}
	named := *e
	named.Kind, named.Message = holdfast.KindInvalid, "line "+decimal(n)+" of the events: "+e.Message
	return &named
}

// parse reads one line.
func parse(data []byte) (line, error) {
	values, err := object(data)
	if err != nil {
		return line{}, err
	}
	f := &fields{values: values}
	name := f.text("event")
	known, ok := shapes[name]
	switch {
	case f.err != nil:
		return line{}, f.err
	case !ok:
		return line{}, holdfast.Errorf(holdfast.KindInvalid, "%q is no event", name).WithField("event").
			WithHint("the events are %s", strings.Join(slices.Sorted(maps.Keys(shapes)), ", "))
	}
	accepted := slices.Concat([]string{"event", "at"}, known.required, known.optional)
	for _, field := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(accepted, field) {
			return line{}, holdfast.Errorf(holdfast.KindInvalid, "%q is no field of %s", field, name).WithField(field).
				WithHint("its fields are %s", strings.Join(accepted, ", "))
		}
	}
	for _, field := range append([]string{"at"}, known.required...) {
		if _, given := values[field]; !given {
			return line{}, holdfast.Errorf(holdfast.KindInvalid, "%s has no field %s", name, field).WithField(field).
				WithHint("its fields are %s", strings.Join(accepted, ", "))
		}
	}
	if known.make == nil {
		e := &edit{f.at(), f.text("policy"), f.text("template"), f.number("version"), f.number("templateVersion"), f.texts("regions")}
		return line{edit: e}, f.err
	}
	event := known.make(f)
	return line{event: event}, f.err
}

// object takes a line apart into the fields of one JSON object, each of which stands in it once.
func object(data []byte) (map[string]json.RawMessage, error) {
	wrong := holdfast.Errorf(holdfast.KindInvalid, "it is not one JSON object").
		WithHint(`write an event on each line, such as {"event":"timePassed","at":"2026-03-01T22:00:00Z"}`)
	d := json.NewDecoder(bytes.NewReader(data))
	if start, err := d.Token(); err != nil || start != json.Delim('{') {
		return nil, wrong
	}
	values := make(map[string]json.RawMessage)
	for d.More() {
		key, err := d.Token()
		name, ok := key.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return nil, wrong
		}
		if _, twice := values[name]; twice {
			return nil, holdfast.Errorf(holdfast.KindInvalid, "the field %q stands there twice", name).WithField(name).WithHint("write each field once")
		}
		values[name] = value
	}
	if end, err := d.Token(); err != nil || end != json.Delim('}') {
		return nil, wrong
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, wrong
	}
	return values, nil
}
