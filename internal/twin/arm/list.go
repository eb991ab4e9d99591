package arm

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// staleFor is how old a resource must be to be in a list that the fault engine wants late, where it names no time.
const staleFor = time.Minute

// Page answers one page of the documents below prefix that wanted accepts, in the order of their keys. Resources that are
// too young for a late list are left out.
func (call *Call) Page(prefix string, wanted func(*state.Document) bool, item func(*state.Document) any) (Answer, error) {
	after, err := call.skipToken()
	if err != nil {
		return Answer{}, err
	}
	size, err := call.pageSize()
	if err != nil {
		return Answer{}, err
	}
	horizon := call.horizon()
	value, last := []any{}, ""
	for doc := range call.View.From(state.Key(prefix + "x")[:len(prefix)], after) {
		if !horizon.IsZero() && doc.Created.After(horizon) || !wanted(doc) {
			continue
		}
		if len(value) == size {
			return Answer{Body: map[string]any{"value": value, "nextLink": call.nextLink(last)}}, nil
		}
		value, last = append(value, item(doc)), doc.Key()
	}
	return Answer{Body: map[string]any{"value": value}}, nil
}

// PageOf answers one page of items that are not documents.
func (call *Call) PageOf(items []any) (Answer, error) {
	after, err := call.skipToken()
	if err != nil {
		return Answer{}, err
	}
	start := 0
	if after != "" {
		if start, err = strconv.Atoi(after); err != nil || start < 0 || start > len(items) {
			return Answer{}, invalidSkipToken()
		}
	}
	end := min(len(items), start+call.server.config.PageSize)
	body := map[string]any{"value": items[start:end:end]}
	if end < len(items) {
		body["nextLink"] = call.nextLink(strconv.Itoa(end))
	}
	return Answer{Body: body}, nil
}

// horizon is the moment up to which a resource must have been created to be listed; zero for no limit.
func (call *Call) horizon() time.Time {
	late := call.server.lateBy()
	if decision := call.Decision(); decision.Kind == fault.StaleList {
		late = staleFor
		if decision.Delay > 0 {
			late = decision.Delay
		}
	}
	if late <= 0 {
		return time.Time{}
	}
	return call.Now.Add(-late)
}

func (call *Call) skipToken() (string, error) {
	token := queryValue(call.Query, "$skiptoken")
	if token == "" {
		return "", nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		return "", invalidSkipToken()
	}
	return string(raw), nil
}

func invalidSkipToken() *Error {
	return Errorf(http.StatusBadRequest, "InvalidSkipToken", "The $skiptoken is not one that this service gave.").At("$skiptoken")
}

func (call *Call) pageSize() (int, error) {
	size := call.server.config.PageSize
	top := queryValue(call.Query, "$top")
	if top == "" {
		return size, nil
	}
	n, err := strconv.Atoi(top)
	if err != nil || n < 1 {
		return 0, Errorf(http.StatusBadRequest, "InvalidTopParameter", "The $top parameter '%s' must be a number above zero.", top).At("$top")
	}
	return min(n, size), nil
}

func (call *Call) nextLink(after string) string {
	query := url.Values{}
	for name, values := range call.Query {
		if !strings.EqualFold(name, "$skiptoken") {
			query[name] = values
		}
	}
	query.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(after)))
	return call.base + (&url.URL{Path: call.Path}).EscapedPath() + "?" + query.Encode()
}
