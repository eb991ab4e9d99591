package arm

import (
	"net/http"
	"regexp"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Permission is an entry of the permissions list: what is allowed, less what is taken out of it. Actions may hold *
// anywhere and are compared without regard to case.
type Permission struct {
	Actions, NotActions, DataActions, NotDataActions []string
}

// allows reports whether the union of the entries covers action (azure.md §6.5).
func allows(permissions []Permission, action string) bool {
	for _, p := range permissions {
		if matchesAny(p.Actions, action) && !matchesAny(p.NotActions, action) {
			return true
		}
	}
	return false
}

func matchesAny(patterns []string, action string) bool {
	for _, pattern := range patterns {
		quoted := strings.ReplaceAll(regexp.QuoteMeta(strings.ToLower(pattern)), `\*`, ".*")
		if matched, err := regexp.MatchString("^"+quoted+"$", strings.ToLower(action)); err == nil && matched {
			return true
		}
	}
	return false
}

// resolveExtension serves what lies below any scope: locks and permissions of Microsoft.Authorization, and tags of
// Microsoft.Resources.
func (s *Server) resolveExtension(call *Call, segments []string) (p plan, found bool, err error) {
	at := -1
	for i := 0; i+2 < len(segments); i++ {
		if strings.EqualFold(segments[i], "providers") && (strings.EqualFold(segments[i+1], "Microsoft.Authorization") || strings.EqualFold(segments[i+1], "Microsoft.Resources")) {
			at = i
		}
	}
	if at < 2 || !strings.EqualFold(segments[0], "subscriptions") {
		return plan{}, false, nil
	}
	scope := "/" + strings.Join(segments[:at], "/")
	rest := segments[at+2:]
	p = plan{subject: segments[at+1] + "/" + rest[0], versions: authorizationVersions(), params: map[string]string{"scope": scope}}
	if strings.EqualFold(segments[at+1], "Microsoft.Resources") {
		return tagsPlan(p, call, scope, rest)
	}
	switch {
	case strings.EqualFold(rest[0], "permissions") && len(rest) == 1 && call.Method == http.MethodGet:
		p.action, p.serve = "Microsoft.Authorization/permissions/read", listPermissions
	case strings.EqualFold(rest[0], "locks") && len(rest) == 1 && call.Method == http.MethodGet:
		p.action, p.serve = "Microsoft.Authorization/locks/read", listLocks
	case strings.EqualFold(rest[0], "locks") && len(rest) == 2:
		return lockPlan(p, call, scope, rest[1])
	default:
		return plan{}, true, notFound(call.Path)
	}
	return p, true, nil
}

func lockPlan(p plan, call *Call, scope, name string) (plan, bool, error) {
	p.params["lock"] = name
	switch call.Method {
	case http.MethodGet:
		p.action, p.serve = "Microsoft.Authorization/locks/read", getLock
	case http.MethodPut:
		p.action, p.write, p.serve = "Microsoft.Authorization/locks/write", true, putLock
	case http.MethodDelete:
		p.action, p.write, p.serve = "Microsoft.Authorization/locks/delete", true, deleteLock
	default:
		return plan{}, true, Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "A lock allows GET, PUT and DELETE.")
	}
	return p, true, nil
}

// checkScope refuses a scope that does not exist.
func checkScope(call *Call) error {
	scope := call.Params["scope"]
	if call.View.Get(scope) != nil {
		return nil
	}
	segments := splitPath(scope)
	if len(segments) >= 4 && call.View.Get("/"+strings.Join(segments[:4], "/")) == nil {
		return groupNotFound(segments[3])
	}
	return Errorf(http.StatusNotFound, "ResourceNotFound", "The scope '%s' was not found.", scope)
}

func listPermissions(call *Call) (Answer, error) {
	if err := checkScope(call); err != nil {
		return Answer{}, err
	}
	value := []any{}
	for _, p := range call.server.granted() {
		entry := state.Object{}
		for name, list := range map[string][]string{"actions": p.Actions, "notActions": p.NotActions, "dataActions": p.DataActions, "notDataActions": p.NotDataActions} {
			entry.Set(name, append([]string{}, list...))
		}
		value = append(value, entry)
	}
	return call.PageOf(value)
}

const locksSegment = "/providers/Microsoft.Authorization/locks/"

// The lock levels.
const (
	CanNotDelete = "CanNotDelete"
	ReadOnly     = "ReadOnly"
)

// NewLock makes the document of a lock on a scope.
func NewLock(scope, name, level string) *state.Document {
	id := scope + locksSegment + name
	body := state.Object{"id": id, "name": name, "type": "Microsoft.Authorization/locks"}
	body.Set("properties.level", level)
	return &state.Document{ID: id, Body: body, Hidden: state.Object{}}
}

func putLock(call *Call) (Answer, error) {
	if err := checkScope(call); err != nil {
		return Answer{}, err
	}
	var level string
	for _, known := range []string{CanNotDelete, ReadOnly} {
		if strings.EqualFold(known, call.Body.Text("properties.level")) {
			level = known
		}
	}
	if level == "" {
		return Answer{}, Errorf(http.StatusBadRequest, "LockLevelInvalid", "The lock level must be %s or %s.", CanNotDelete, ReadOnly).At("properties.level")
	}
	scope := call.Params["scope"]
	if doc := call.View.Get(scope); doc != nil {
		scope = doc.ID
	}
	lock := NewLock(scope, call.Params["lock"], level)
	if notes := call.Body.Text("properties.notes"); notes != "" {
		lock.Body.Set("properties.notes", notes)
	}
	lock.Created = call.Now
	status := http.StatusCreated
	if existing := call.View.Get(lock.ID); existing != nil {
		status, lock.Created, lock.Sequence = http.StatusOK, existing.Created, existing.Sequence
	}
	call.Tx.Put(lock)
	return Answer{Status: status, Body: lock.Body}, nil
}

func getLock(call *Call) (Answer, error) {
	lock := call.View.Get(call.Params["scope"] + locksSegment + call.Params["lock"])
	if lock == nil {
		return Answer{}, Errorf(http.StatusNotFound, "LockNotFound", "The lock '%s' could not be found.", call.Params["lock"])
	}
	return Answer{Body: lock.Body}, nil
}

func deleteLock(call *Call) (Answer, error) {
	id := call.Params["scope"] + locksSegment + call.Params["lock"]
	if call.View.Get(id) == nil {
		return Answer{Status: http.StatusNoContent}, nil
	}
	call.Tx.Delete(id)
	return Answer{}, nil
}

// listLocks lists the locks on the scope, below it, and with $filter=atScope() those at or above it.
func listLocks(call *Call) (Answer, error) {
	if err := checkScope(call); err != nil {
		return Answer{}, err
	}
	scope := state.Key(call.Params["scope"])
	if strings.EqualFold(queryValue(call.Query, "$filter"), "atScope()") {
		value := []any{}
		for _, lock := range locksAbove(call.View, scope) {
			value = append(value, lock.Body)
		}
		return call.PageOf(value)
	}
	return call.Page(scope+"/", isLock, func(doc *state.Document) any { return doc.Body })
}

func isLock(doc *state.Document) bool {
	return strings.Contains(doc.Key(), strings.ToLower(locksSegment))
}

// locksAbove returns the locks that hold for an id: those on itself, its parents, its group and its subscription.
func locksAbove(view *state.View, id string) []*state.Document {
	segments := splitPath(state.Key(id))
	var found []*state.Document
	for _, length := range []int{2, 4, 8, 10, 12} {
		if length > len(segments) {
			break
		}
		scope := "/" + strings.Join(segments[:length], "/")
		for lock := range view.Below(scope + strings.ToLower(locksSegment)) {
			found = append(found, lock)
		}
	}
	return found
}

// locksBelow returns the locks on what is inside a scope.
func locksBelow(view *state.View, scope string) []*state.Document {
	var found []*state.Document
	for doc := range view.Below(scope + "/providers/") {
		if isLock(doc) {
			found = append(found, doc)
		}
	}
	return found
}

// checkLocks refuses a write that a lock forbids: CanNotDelete forbids DELETE, ReadOnly every method that is not a read.
func checkLocks(view *state.View, id, method string) error {
	if id == "" {
		return nil
	}
	operation := map[string]string{http.MethodDelete: "delete", http.MethodPost: "perform an action"}[method]
	if operation == "" {
		operation = "write"
	}
	var forbidding []*state.Document
	for _, lock := range locksAbove(view, id) {
		if method == http.MethodDelete || lock.Body.Text("properties.level") == ReadOnly {
			forbidding = append(forbidding, lock)
		}
	}
	if len(forbidding) == 0 {
		return nil
	}
	return scopeLocked(id, operation, forbidding)
}

func scopeLocked(id, operation string, locks []*state.Document) *Error {
	var scopes []string
	for _, lock := range locks {
		scope, _, _ := strings.Cut(lock.ID, locksSegment)
		scopes = append(scopes, "'"+scope+"'")
	}
	return Errorf(http.StatusConflict, "ScopeLocked", "The scope '%s' cannot perform %s operation because following scope(s) are locked: %s. Please remove the lock and try again.", id, operation, strings.Join(scopes, ","))
}
