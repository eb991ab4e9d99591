package arm

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// filter is a parsed $filter of the resource lists: alternatives of conditions that hold together.
type filter [][]condition

type condition struct {
	field, value string
	negated      bool
}

var filterTerm = regexp.MustCompile(`(?i)^\s*(resourceType|resourceGroup|name|location|tagName|tagValue)\s+(eq|ne)\s+'((?:[^']|'')*)'\s*`)

// parseFilter reads "field eq 'value'" terms joined by and, or; and binds tighter. A tagName and a tagValue of one
// alternative speak of the same tag. An empty text matches everything.
func parseFilter(text string) (filter, error) {
	if strings.TrimSpace(text) == "" {
		return filter{{}}, nil
	}
	f := filter{{}}
	for rest := text; ; {
		term := filterTerm.FindStringSubmatch(rest)
		if term == nil {
			return nil, Errorf(http.StatusBadRequest, "InvalidFilterInQueryString", "Invalid $filter '%s' specified in the query string: cannot read it from '%s' on.", text, strings.TrimSpace(rest)).At("$filter")
		}
		last := len(f) - 1
		f[last] = append(f[last], condition{field: strings.ToLower(term[1]), negated: strings.EqualFold(term[2], "ne"), value: strings.ReplaceAll(term[3], "''", "'")})
		rest = rest[len(term[0]):]
		word, after, _ := strings.Cut(rest, " ")
		switch {
		case rest == "":
			return f, nil
		case strings.EqualFold(word, "and"):
		case strings.EqualFold(word, "or"):
			f = append(f, nil)
		default:
			return nil, Errorf(http.StatusBadRequest, "InvalidFilterInQueryString", "Invalid $filter '%s' specified in the query string: '%s' joins nothing.", text, word).At("$filter")
		}
		rest = after
	}
}

func (f filter) matches(doc *state.Document) bool {
	for _, alternative := range f {
		all := true
		for _, c := range alternative {
			all = all && c.matches(doc, alternative)
		}
		if all {
			return true
		}
	}
	return false
}

func (c condition) matches(doc *state.Document, together []condition) bool {
	if c.field == "tagname" || c.field == "tagvalue" {
		return hasTag(doc.Body.Object("tags"), together) != c.negated
	}
	var have string
	switch c.field {
	case "resourcetype":
		have = TypeOf(doc.ID)
	case "resourcegroup":
		have = splitPath(doc.ID)[3]
	case "name":
		have = lastSegment(doc.ID)
	case "location":
		return (NormalLocation(c.value) == doc.Body.Text("location")) != c.negated
	}
	return strings.EqualFold(have, c.value) != c.negated
}

// hasTag reports whether one tag satisfies all tag conditions. Names are compared without regard to case, values with.
func hasTag(tags state.Object, conditions []condition) bool {
	for name, value := range tags {
		fits := true
		for _, c := range conditions {
			switch c.field {
			case "tagname":
				fits = fits && strings.EqualFold(name, c.value)
			case "tagvalue":
				fits = fits && value == c.value
			}
		}
		if fits {
			return true
		}
	}
	return false
}
