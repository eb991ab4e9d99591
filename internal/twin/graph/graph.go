// Package graph is the twin's Azure Resource Graph: the part of its query language (KQL) that inventory tools use, over
// the resources that exist in the twin.
//
// It promises the service's manners: pages with $skipToken, given only when the result has the column id; the quota of 15
// queries in five seconds with its headers; scopes by subscription; lists that lag behind when a fault rule says so; and
// for a query it does not understand a 400 with the place, never a guess. KQL's own traps are kept: names of columns mind
// casing, == minds casing and =~ does not, types are lower-case, and order by is descending unless told otherwise. It must
// never panic or run long, whatever the query: length, nesting and number of operators are bounded.
//
// Sources: Microsoft Learn, "Azure Resource Graph query language", "Work with large data sets" and "Guidance for throttled
// requests" (2026, api-version 2024-04-01); reference/azure.md §4.5.
package graph

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

// Path is where the service is reached, in any casing.
const Path = "/providers/Microsoft.ResourceGraph/resources"

const (
	rowsMax           = 1000 // of a page, and the default
	quota             = 15   // queries of one principal
	quotaWindow       = 5 * time.Second
	requestBytesMax   = 1 << 20
	staleDefault      = time.Minute
	oldestVersion     = "2018-09-01-preview"
	newestVersion     = "2025-12-31"
	subscriptionIDLen = 36
)

// Resource is a row of the tables: the ARM document, and when it came into being.
type Resource struct {
	Document map[string]any // as ARM returns it; it is not changed
	Created  time.Time
}

// Config says what a Service needs; Resources and Clock are required.
type Config struct {
	// Resources returns every resource, resource group and subscription.
	Resources func(ctx context.Context) ([]Resource, error)
	// Authenticate names the caller or refuses, best with an *Error. nil lets everybody in.
	Authenticate func(*http.Request) (principal string, err error)
	Clock        clock.Clock
	TenantID     string
	PageSize     int // 0 means 1,000
}

// Service answers queries. Safe for concurrent use.
type Service struct {
	config Config

	mu        sync.Mutex
	unlimited bool                   // guarded by mu
	recent    map[string][]time.Time // guarded by mu; queries of the last window, by principal
}

// New returns a service with the quota in force.
func New(config Config) (*Service, error) {
	if config.Resources == nil || config.Clock == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "Resource Graph needs resources and a clock")
	}
	if config.PageSize <= 0 || config.PageSize > rowsMax {
		config.PageSize = rowsMax
	}
	return &Service{config: config, recent: map[string][]time.Time{}}, nil
}

// Limits says whether the quota is in force.
type Limits bool

// The two states of the quota.
const (
	LimitsOn  Limits = true
	LimitsOff Limits = false
)

// SetLimits switches the quota.
func (s *Service) SetLimits(limits Limits) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlimited = limits == LimitsOff
}

// Owns reports whether the path is Resource Graph's.
func Owns(path string) bool { return strings.EqualFold(strings.TrimSuffix(path, "/"), Path) }

// Error is a refusal with ARM's error body.
type Error struct {
	Status  int
	Code    string
	Message string
	Details []map[string]any
	Header  http.Header
}

// Error returns code and message.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// request is the body of a query.
type request struct {
	Query            string   `json:"query"`
	Subscriptions    []string `json:"subscriptions"`
	ManagementGroups []string `json:"managementGroups"`
	Facets           []any    `json:"facets"`
	Options          struct {
		Top                      *int   `json:"$top"`
		Skip                     *int   `json:"$skip"`
		SkipToken                string `json:"$skipToken"`
		ResultFormat             string `json:"resultFormat"`
		AllowPartialScopes       bool   `json:"allowPartialScopes"`
		AuthorizationScopeFilter string `json:"authorizationScopeFilter"`
	} `json:"options"`
}

// response is its answer.
type response struct {
	TotalRecords    int    `json:"totalRecords"`
	Count           int    `json:"count"`
	ResultTruncated string `json:"resultTruncated"` // "true" or "false"
	SkipToken       string `json:"$skipToken,omitempty"`
	Facets          []any  `json:"facets"`
	Data            any    `json:"data"`
}

// Handler serves Path.
func (s *Service) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	answer, err := s.answer(w.Header(), r)
	if err != nil {
		var refusal *Error
		if !errors.As(err, &refusal) {
			refusal = &Error{Status: http.StatusInternalServerError, Code: "InternalServerError", Message: err.Error()}
		}
		maps.Copy(w.Header(), refusal.Header)
		inner := map[string]any{"code": refusal.Code, "message": refusal.Message}
		if len(refusal.Details) > 0 {
			inner["details"] = refusal.Details
		}
		writeJSON(w, refusal.Status, map[string]any{"error": inner})
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // best effort: the client may have gone
}

// answer is the road of every query.
func (s *Service) answer(header http.Header, r *http.Request) (*response, error) {
	principal, err := s.authenticate(r)
	if err != nil {
		return nil, err
	}
	if err := checkRequest(r); err != nil {
		return nil, err
	}
	if err := s.admit(header, principal); err != nil {
		return nil, err
	}
	asked, err := readRequest(r)
	if err != nil {
		return nil, err
	}
	parsed, err := parse(asked.Query)
	if err != nil {
		return nil, refused(err)
	}
	rows, err := s.rows(r.Context(), parsed.table, asked.Subscriptions)
	if err != nil {
		return nil, err
	}
	result := &table{columns: columnsOf(parsed.table), rows: rows}
	for _, step := range parsed.steps {
		if result, err = step.apply(result); err != nil {
			return nil, refused(err)
		}
	}
	return s.page(result, asked)
}

func (s *Service) authenticate(r *http.Request) (string, error) {
	if s.config.Authenticate == nil {
		return "anonymous", nil
	}
	principal, err := s.config.Authenticate(r)
	var refusal *Error
	if err != nil && !errors.As(err, &refusal) {
		return "", &Error{Status: http.StatusUnauthorized, Code: "InvalidAuthenticationToken", Message: err.Error()}
	}
	return principal, err
}

func checkRequest(r *http.Request) error {
	if r.Method != http.MethodPost {
		return &Error{Status: http.StatusMethodNotAllowed, Code: "MethodNotAllowed", Message: "Resource Graph is asked by POST.", Header: http.Header{"Allow": {"POST"}}}
	}
	version := ""
	for name, values := range r.URL.Query() {
		if strings.EqualFold(name, "api-version") && len(values) > 0 {
			version = values[0]
		}
	}
	if version == "" {
		return &Error{Status: http.StatusBadRequest, Code: "MissingApiVersionParameter", Message: "The api-version query parameter (?api-version=) is required for all requests."}
	}
	day := strings.TrimSuffix(strings.ToLower(version), "-preview")
	if _, err := time.Parse(time.DateOnly, day); err != nil || version < oldestVersion || day > newestVersion {
		return &Error{
			Status: http.StatusBadRequest, Code: "InvalidApiVersionParameter",
			Message: fmt.Sprintf("The api-version '%s' is invalid. The supported versions are '2024-04-01,2022-10-01,2021-03-01,2019-04-01,2018-09-01-preview'.", version),
		}
	}
	return nil
}

// admit counts the query against the quota of its principal: a sliding window.
func (s *Service) admit(header http.Header, principal string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.unlimited {
		return nil
	}
	now := s.config.Clock.Now()
	recent := slices.DeleteFunc(s.recent[principal], func(t time.Time) bool { return now.Sub(t) >= quotaWindow })
	resets := quotaWindow
	if len(recent) > 0 {
		resets = recent[0].Add(quotaWindow).Sub(now)
	}
	seconds := int((resets + time.Second - 1) / time.Second)
	header.Set("x-ms-user-quota-resets-after", fmt.Sprintf("00:00:%02d", seconds))
	if len(recent) >= quota {
		s.recent[principal] = recent
		header.Set("x-ms-user-quota-remaining", "0")
		return &Error{
			Status: http.StatusTooManyRequests, Code: "RateLimiting", Message: "Please provide below info when asking for support: the quota of queries is used up.",
			Header: http.Header{"Retry-After": {strconv.Itoa(seconds)}},
		}
	}
	s.recent[principal] = append(recent, now)
	header.Set("x-ms-user-quota-remaining", strconv.Itoa(quota-len(recent)-1))
	return nil
}

func readRequest(r *http.Request) (*request, error) {
	invalid := func(format string, args ...any) error {
		return &Error{Status: http.StatusBadRequest, Code: "BadRequest", Message: fmt.Sprintf(format, args...)}
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, requestBytesMax+1))
	if err != nil || len(body) > requestBytesMax {
		return nil, invalid("The request's content is missing or too large.")
	}
	var asked request
	if err := json.Unmarshal(body, &asked); err != nil {
		return nil, invalid("The request's content cannot be understood: %v.", err)
	}
	options := asked.Options
	switch {
	case strings.TrimSpace(asked.Query) == "":
		return nil, invalid("A query is required.")
	case len(asked.Facets) > 0:
		return nil, invalid("Facets are not supported by this service.")
	case len(asked.ManagementGroups) > 0:
		return nil, invalid("Management groups are not supported by this service; name subscriptions, or none for all.")
	case options.Top != nil && (*options.Top < 1 || *options.Top > rowsMax):
		return nil, invalid("The value of $top must be between 1 and %d.", rowsMax)
	case options.Skip != nil && *options.Skip < 0:
		return nil, invalid("The value of $skip must not be negative.")
	case !slices.Contains([]string{"", "objectArray", "table"}, options.ResultFormat):
		return nil, invalid("The resultFormat '%s' is invalid; it is objectArray or table.", options.ResultFormat)
	}
	return &asked, nil
}

// refused makes the service's answer to a query that cannot be carried out.
func refused(err error) error {
	refusal := &Error{
		Status: http.StatusBadRequest, Code: "BadRequest", Message: "The query cannot be carried out: " + err.Error(),
		Details: []map[string]any{{"code": "InvalidQuery", "message": "Query is invalid. Please refer to the documentation for the Azure Resource Graph service and fix the error before retrying."}},
	}
	var syntax *SyntaxError
	if errors.As(err, &syntax) {
		refusal.Details = append(refusal.Details, map[string]any{
			"code": "ParserFailure", "message": err.Error(), "line": syntax.Line, "characterPositionInLine": syntax.Column - 1,
			"token": syntax.Token, "expectedToken": syntax.Expected,
		})
	}
	return refusal
}

func columnsOf(table string) []string {
	columns := []string{"id", "name", "type", "tenantId", "kind", "location", "resourceGroup", "subscriptionId", "managedBy", "sku", "plan", "properties", "tags", "identity", "zones", "extendedLocation"}
	if table == tableContainers {
		return columns[:13]
	}
	return columns
}

// rows returns the table within the subscriptions, in order of ids. A stale-list fault hides what is younger than its
// delay.
func (s *Service) rows(ctx context.Context, table string, subscriptions []string) ([]row, error) {
	resources, err := s.config.Resources(ctx)
	if err != nil {
		return nil, err
	}
	hidden := s.config.Clock.Now().Add(time.Hour)
	if decision := fault.From(ctx); decision.Kind == fault.StaleList {
		if decision.Delay == 0 {
			decision.Delay = staleDefault
		}
		hidden = s.config.Clock.Now().Add(-decision.Delay)
	}
	rows := make([]row, 0, len(resources))
	for _, resource := range resources {
		r := s.rowOf(resource.Document)
		inScope := len(subscriptions) == 0 || slices.ContainsFunc(subscriptions, func(id string) bool { return strings.EqualFold(id, text(r["subscriptionId"])) })
		if inScope && resource.Created.Before(hidden) && isContainer(text(r["type"])) == (table == tableContainers) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b row) int { return strings.Compare(text(a["id"]), text(b["id"])) })
	return rows, nil
}

func isContainer(resourceType string) bool {
	return resourceType == "microsoft.resources/subscriptions" || resourceType == "microsoft.resources/subscriptions/resourcegroups"
}

// rowOf takes the columns out of an ARM document and adds those that come from the id. Types and groups are lower-case,
// as the service has them.
func (s *Service) rowOf(document map[string]any) row {
	id := text(document["id"])
	r := row{"id": id, "tenantId": s.config.TenantID, "kind": "", "managedBy": ""}
	for _, column := range columnsOf(tableResources) {
		if value, found := document[column]; found && value != nil {
			r[column] = value
		}
	}
	parts := strings.Split(strings.Trim(id, "/"), "/")
	if len(parts) >= 2 && len(parts[1]) == subscriptionIDLen {
		r["subscriptionId"] = parts[1]
	}
	r["resourceGroup"] = ""
	if len(parts) >= 4 {
		r["resourceGroup"] = strings.ToLower(parts[3])
	}
	resourceType := text(document["type"])
	switch {
	case len(parts) == 2:
		resourceType = "microsoft.resources/subscriptions"
		if display := text(document["displayName"]); display != "" {
			r["name"] = display
		}
	case len(parts) == 4:
		resourceType = "microsoft.resources/subscriptions/resourcegroups"
	}
	r["type"] = strings.ToLower(resourceType)
	return r
}

// page cuts the asked part out of the result.
func (s *Service) page(result *table, asked *request) (*response, error) {
	size, offset := s.config.PageSize, 0
	fingerprint := sha256.Sum256([]byte(asked.Query + "\x00" + strings.Join(asked.Subscriptions, ",")))
	if token := asked.Options.SkipToken; token != "" {
		var err error
		if offset, size, err = readToken(token, fingerprint); err != nil {
			return nil, err
		}
	} else if asked.Options.Skip != nil {
		offset = *asked.Options.Skip
	}
	if asked.Options.Top != nil {
		size = min(size, *asked.Options.Top)
	}
	start := min(offset, len(result.rows))
	end := min(start+size, len(result.rows))
	answer := &response{TotalRecords: len(result.rows), Count: end - start, ResultTruncated: "false", Facets: []any{}}
	// The service pages only results that still have the column id.
	if end < len(result.rows) {
		answer.ResultTruncated = "true"
		if slices.Contains(result.columns, "id") {
			answer.ResultTruncated, answer.SkipToken = "false", writeToken(end, size, fingerprint)
		}
	}
	part := &table{columns: result.columns, rows: result.rows[start:end]}
	if asked.Options.ResultFormat == "table" {
		answer.Data = part.asTable()
	} else {
		answer.Data = part.asObjects()
	}
	return answer, nil
}

func writeToken(offset, size int, fingerprint [32]byte) string {
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%d:%d:%x", offset, size, fingerprint[:8]))
}

func readToken(token string, fingerprint [32]byte) (offset, size int, err error) {
	decoded, decodeErr := base64.StdEncoding.DecodeString(token)
	var mark string
	_, scanErr := fmt.Sscanf(strings.ReplaceAll(string(decoded), ":", " "), "%d %d %s", &offset, &size, &mark)
	if decodeErr != nil || scanErr != nil || mark != fmt.Sprintf("%x", fingerprint[:8]) || offset < 0 || size < 1 {
		return 0, 0, &Error{Status: http.StatusBadRequest, Code: "BadRequest", Message: "The $skipToken is invalid, or it belongs to another query."}
	}
	return offset, size, nil
}

func (t *table) asObjects() []map[string]any {
	objects := make([]map[string]any, len(t.rows))
	for i, r := range t.rows {
		objects[i] = map[string]any{}
		for _, column := range t.columns {
			objects[i][column] = r[column]
		}
	}
	return objects
}

func (t *table) asTable() map[string]any {
	columns := make([]map[string]string, len(t.columns))
	for i, column := range t.columns {
		columns[i] = map[string]string{"name": column, "type": t.typeOf(column)}
	}
	rows := make([][]any, len(t.rows))
	for i, r := range t.rows {
		for _, column := range t.columns {
			rows[i] = append(rows[i], r[column])
		}
	}
	return map[string]any{"columns": columns, "rows": rows}
}

// typeOf names the type of the column's first value.
func (t *table) typeOf(column string) string {
	for _, r := range t.rows {
		switch plain(r[column]).(type) {
		case nil:
			continue
		case string:
			return "string"
		case bool:
			return "boolean"
		case float64:
			return "integer"
		}
		return "object"
	}
	return "string"
}
