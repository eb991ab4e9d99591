package inventory

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// reader walks through JSON token by token. The decoder of the standard library, left to fill structs, would take a field in
// any case, the last of several values, and would not say where.
type reader struct {
	name    string
	data    []byte
	decoder *json.Decoder
	at      int64 // where the token that was read last begins
}

func newReader(name string, data []byte) *reader {
	r := &reader{name: name, data: data, decoder: json.NewDecoder(bytes.NewReader(data))}
	r.decoder.UseNumber()
	return r
}

// fields are what an object may hold: each reads the value of its field, which stands at a path.
type fields map[string]func(path string) error

// object reads an object with the given fields, of which the required ones must be there.
func (r *reader) object(path string, accepted fields, required ...string) error {
	var given []string
	err := r.pairs(path, func(path, name string) error {
		read, ok := accepted[name]
		if !ok {
			return r.wrong(path, "unknown field").WithHint("accepted here: %s", strings.Join(slices.Sorted(maps.Keys(accepted)), ", "))
		}
		if slices.Contains(given, name) {
			return r.wrong(path, "the field is given twice")
		}
		given = append(given, name)
		return read(path)
	})
	if err != nil {
		return err
	}
	for _, name := range required {
		if !slices.Contains(given, name) {
			return r.wrong(join(path, name), "missing")
		}
	}
	return nil
}

// pairs reads an object and hands each name to read, which reads the value. null is an object without pairs.
func (r *reader) pairs(path string, read func(path, name string) error) error {
	empty, err := r.open(path, '{', "an object")
	if empty || err != nil {
		return err
	}
	for r.decoder.More() {
		token, err := r.token(path)
		if err != nil {
			return err
		}
		name, ok := token.(string)
		if !ok {
			return r.wrong(path, "the name of a field is wanted, not %s", what(token))
		}
		if err := read(join(path, name), name); err != nil {
			return err
		}
	}
	_, err = r.token(path)
	return err
}

// list reads a list and has read read each of its elements. null is a list without elements.
func (r *reader) list(path string, read func(path string) error) error {
	empty, err := r.open(path, '[', "a list")
	if empty || err != nil {
		return err
	}
	for i := 0; r.decoder.More(); i++ {
		if err := read(path + "[" + strconv.Itoa(i) + "]"); err != nil {
			return err
		}
	}
	_, err = r.token(path)
	return err
}

// open reads the beginning of a list or object; null, as programs write for one that is empty, is all of it.
func (r *reader) open(path string, delimiter json.Delim, wanted string) (empty bool, err error) {
	token, err := r.token(path)
	if err != nil || token == nil {
		return true, err
	}
	if token != delimiter {
		return false, r.wrong(path, "%s is wanted, not %s", wanted, what(token))
	}
	return false, nil
}

func (r *reader) text(path string, into *string) error {
	token, err := r.token(path)
	if err != nil {
		return err
	}
	text, ok := token.(string)
	if !ok {
		return r.wrong(path, "text in quotation marks is wanted, not %s", what(token))
	}
	*into = text
	return nil
}

// whole reads a whole number that is not negative.
func (r *reader) whole(path string, into *int64) error {
	token, err := r.token(path)
	if err != nil {
		return err
	}
	number, ok := token.(json.Number)
	n, err := strconv.ParseInt(string(number), 10, 64)
	if !ok || err != nil || n < 0 {
		return r.wrong(path, "a whole number from 0 is wanted, not %s", what(token))
	}
	*into = n
	return nil
}

// end makes sure that nothing follows.
func (r *reader) end() error {
	if rest := bytes.TrimSpace(r.data[r.decoder.InputOffset():]); len(rest) > 0 {
		r.at = int64(len(r.data) - len(bytes.TrimLeft(r.data[r.decoder.InputOffset():], " \t\r\n")))
		return r.wrong("", "something follows the inventory")
	}
	return nil
}

// token reads the next token.
func (r *reader) token(path string) (json.Token, error) {
	from := r.decoder.InputOffset()
	token, err := r.decoder.Token()
	// What separates two tokens belongs to neither.
	r.at = int64(len(r.data) - len(bytes.TrimLeft(r.data[min(from, int64(len(r.data))):], " \t\r\n,:")))
	if err != nil {
		return nil, r.wrong(path, "this is not JSON: %s", strings.TrimPrefix(err.Error(), "json: "))
	}
	return token, nil
}

// wrong makes an error of KindInvalid that names the place of the token that was read last. Its hint serves where there is no
// better one.
func (r *reader) wrong(path, format string, args ...any) *holdfast.Error {
	before := r.data[:min(r.at, int64(len(r.data)))]
	line := bytes.Count(before, []byte("\n")) + 1
	column := len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = path + ": " + message
	}
	return holdfast.Errorf(holdfast.KindInvalid, "%s:%d:%d: %s", r.name, line, column, message).WithField(path).
		WithHint("an inventory is what holdfast inventory --json prints")
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// what names a token for people.
func what(token json.Token) string {
	switch t := token.(type) {
	case nil:
		return "null"
	case json.Delim:
		if t == '{' {
			return "an object"
		}
		return "a list"
	case string:
		return strconv.Quote(t)
	}
	return fmt.Sprint(token)
}
