package replay

import (
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// fields are those of one event. The first that is not what it should be is kept as the error; one that is left out has its
// zero value.
type fields struct {
	values map[string]json.RawMessage
	err    error
}

// read decodes a field, if it is there.
func (f *fields) read(name string, into any, want string) {
	raw, given := f.values[name]
	if !given || f.err != nil {
		return
	}
	if err := json.Unmarshal(raw, into); err != nil || string(raw) == "null" {
		f.err = holdfast.Errorf(holdfast.KindInvalid, "%s is not what belongs into the field %s", excerpt(raw), name).WithField(name).WithHint("write %s", want)
	}
}

// excerpt shortens what somebody wrote to what fits into a sentence.
func excerpt(raw []byte) string {
	const most = 40
	if len(raw) > most {
		return string(raw[:most]) + "…"
	}
	return string(raw)
}

func (f *fields) text(name string) (value string) {
	f.read(name, &value, "a text")
	return value
}

func (f *fields) texts(name string) (value []string) {
	f.read(name, &value, `a list of texts, such as ["westeurope"]`)
	return value
}

func (f *fields) number(name string) (value int) {
	f.read(name, &value, "a whole number")
	return value
}

func (f *fields) truth(name string) (value bool) {
	f.read(name, &value, "true or false")
	return value
}

func (f *fields) instant(name string) (value time.Time) {
	f.read(name, &value, "a time such as 2026-03-01T22:00:00Z")
	return value.UTC()
}

func (f *fields) at() time.Time { return f.instant("at") }

// machine reads an ARM id.
func (f *fields) machine() holdfast.ResourceID {
	id, err := holdfast.ParseResourceID(f.text("machine"))
	var wrong *holdfast.Error
	if errors.As(err, &wrong) && f.err == nil {
		f.err = wrong.WithField("machine")
	}
	return id
}

func (f *fields) work() sla.Work {
	return sla.Work{Policy: f.text("policy"), Machine: f.machine(), Kind: holdfast.PointKind(f.text("kind")), Slot: f.instant("slot")}
}

func decimal(n int) string { return strconv.Itoa(n) }
