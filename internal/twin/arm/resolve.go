package arm

import (
	"net/http"
	"slices"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Type is a resource type that a provider registers. The front serves GET, PUT, PATCH, DELETE, lists and generic access
// by id for it; the provider says what is special.
type Type struct {
	Name     string // Microsoft.Compute/disks; child types name all segments
	Versions Versions
	// Put makes or changes the resource; existing is nil for a new one. Location, tags, name and group are checked already.
	Put func(call *Call, id string, existing *state.Document) (Answer, error)
	// Patch changes it; nil allows tags only.
	Patch func(call *Call, existing *state.Document) (Answer, error)
	// Deletable refuses a deletion; nil allows it. It is asked when a DELETE is accepted and again by Remove's caller.
	Deletable func(view *state.View, doc *state.Document) error
	// Remove takes the resource and what belongs to it away.
	Remove func(tx *state.Tx, doc *state.Document) error
	// Get answers a GET, nil renders.
	Get func(call *Call, doc *state.Document) (state.Object, error)
	// Render gives what clients see, nil the stored body. It must not change doc.
	Render func(view *state.View, doc *state.Document) state.Object
	// Item gives a resource's form in its type's lists, nil renders.
	Item func(call *Call, doc *state.Document) state.Object
	// Actions by lower-cased name: POST for what acts, GET for views of the resource.
	Actions map[string]Action
	// Class gives the provider's own rate limit of a call; nil has none.
	Class func(method, action string, list bool) Class
	// Immediate deletes within the request; others are long-running.
	Immediate bool
	// NoLocation types (children) take no location.
	NoLocation bool
	// ReadOnly types are made and removed with their parents; GET, lists and actions are all that clients can do.
	ReadOnly bool
	// Unlisted types have no list of their own.
	Unlisted bool
	// OperationPath is the collection in polling URLs; "" means operations.
	OperationPath string
}

// Action is an operation on a resource beside the four verbs.
type Action struct {
	Method string
	Write  bool
	Serve  func(call *Call, doc *state.Document) (Answer, error)
}

func (t *Type) namespace() string {
	namespace, _, _ := strings.Cut(t.Name, "/")
	return namespace
}

func (t *Type) operationPath() string {
	if t.OperationPath != "" {
		return t.OperationPath
	}
	return "operations"
}

func (t *Type) class(method, action string, list bool) Class {
	if t.Class == nil {
		return Class{}
	}
	return t.Class(method, action, list)
}

// target is a resource named by a path.
type target struct {
	kind         *Type
	subscription string
	group        string
	names        []string
}

// id builds the resource's id with the type's own casing and everything else as sent.
func (t target) id() string {
	var id strings.Builder
	id.WriteString("/subscriptions/" + t.subscription + "/resourceGroups/" + t.group + "/providers/" + t.kind.namespace())
	for i, segment := range strings.Split(t.kind.Name, "/")[1:] {
		id.WriteString("/" + segment + "/" + t.names[i])
	}
	return id.String()
}

func (t target) name() string { return t.names[len(t.names)-1] }

func (t target) groupID() string {
	return "/subscriptions/" + t.subscription + "/resourceGroups/" + t.group
}

// resolve finds what serves a request: a route, an extension of a scope, or a resource type.
func (s *Server) resolve(call *Call) (plan, error) {
	segments := splitPath(call.Path)
	if p, found, err := s.resolveRoute(call, segments); found || err != nil {
		return p, err
	}
	if p, found, err := s.resolveExtension(call, segments); found || err != nil {
		return p, err
	}
	if len(segments) < 5 || !strings.EqualFold(segments[0], "subscriptions") {
		return plan{}, notFound(call.Path)
	}
	if strings.EqualFold(segments[2], "providers") {
		return s.resolveSubscriptionList(call, segments)
	}
	if len(segments) < 7 || !strings.EqualFold(segments[2], "resourceGroups") || !strings.EqualFold(segments[4], "providers") {
		return plan{}, notFound(call.Path)
	}
	return s.resolveResource(call, segments)
}

func (s *Server) resolveRoute(call *Call, segments []string) (p plan, found bool, err error) {
	known := false
	for i := range s.routes {
		r := &s.routes[i]
		params, matches := r.match(segments)
		if !matches {
			continue
		}
		known = true
		if r.Method != call.Method {
			continue
		}
		p = plan{subject: r.Template, versions: r.Versions, params: params, action: r.Action, write: r.Write, serve: r.Serve}
		if _, isOperation := params["operation"]; isOperation {
			p.class = PollingClass()
			p.resource = s.polledResource(call.View, params["operation"])
		}
		if group := params["group"]; group != "" {
			p.lockable = "/subscriptions/" + params["subscription"] + "/resourceGroups/" + group
		}
		return p, true, nil
	}
	if known {
		return plan{}, true, Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "The path %s does not allow %s.", call.Path, call.Method)
	}
	return plan{}, false, nil
}

func (s *Server) polledResource(view *state.View, operation string) string {
	if op := view.Get(operationsPrefix + operation); op != nil {
		return op.Hidden.Text("resource")
	}
	return ""
}

// resolveSubscriptionList serves /subscriptions/S/providers/NAMESPACE/TYPE.
func (s *Server) resolveSubscriptionList(call *Call, segments []string) (plan, error) {
	if len(segments) != 5 {
		return plan{}, notFound(call.Path)
	}
	kind, err := s.findType(segments[3], segments[4:5])
	if err != nil {
		return plan{}, err
	}
	if call.Method != http.MethodGet {
		return plan{}, Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "A list allows GET only.")
	}
	prefix := "/subscriptions/" + segments[1] + "/resourceGroups/"
	return s.listPlan(kind, prefix, ""), nil
}

func (s *Server) listPlan(kind *Type, prefix, group string) plan {
	return plan{
		subject: kind.Name, versions: kind.Versions, action: kind.Name + "/read", class: kind.class(http.MethodGet, "", true),
		serve: func(call *Call) (Answer, error) {
			if group != "" && call.View.Get(group) == nil {
				return Answer{}, groupNotFound(lastSegment(group))
			}
			return call.Page(prefix, func(doc *state.Document) bool { return strings.EqualFold(TypeOf(doc.ID), kind.Name) },
				func(doc *state.Document) any { return s.item(call, kind, doc) })
		},
	}
}

// childrenPlan lists the resources of a group, or of a parent, which must be there.
func (s *Server) childrenPlan(kind *Type, path, group string, below bool) plan {
	p := s.listPlan(kind, path+"/", group)
	parent, list := path[:strings.LastIndex(path, "/")], p.serve
	p.serve = func(call *Call) (Answer, error) {
		if below && call.View.Get(group) != nil && call.View.Get(parent) == nil {
			return Answer{}, Errorf(http.StatusNotFound, "ParentResourceNotFound", "The parent resource '%s' could not be found.", parent)
		}
		return list(call)
	}
	return p
}

func (s *Server) item(call *Call, kind *Type, doc *state.Document) state.Object {
	if kind.Item != nil {
		return kind.Item(call, doc)
	}
	return call.Rendered(doc)
}

// resolveResource serves a resource, a list of them in a group or below a parent, or an action.
func (s *Server) resolveResource(call *Call, segments []string) (plan, error) {
	rest := segments[6:]
	t := target{subscription: segments[1], group: segments[3]}
	var types []string
	for i := 0; i+1 < len(rest); i += 2 {
		types, t.names = append(types, rest[i]), append(t.names, rest[i+1])
	}
	if len(rest)%2 == 0 {
		kind, err := s.findType(segments[5], types)
		if err != nil {
			return plan{}, err
		}
		t.kind = kind
		return s.resourcePlan(call, t)
	}
	last := rest[len(rest)-1]
	if kind, err := s.findType(segments[5], append(slices.Clip(types), last)); err == nil && call.Method == http.MethodGet && !kind.Unlisted {
		listed := "/" + strings.Join(segments, "/")
		return s.childrenPlan(kind, listed, t.groupID(), len(types) > 0), nil
	}
	kind, err := s.findType(segments[5], append(types, last)[:max(1, len(types))])
	if err != nil {
		return plan{}, err
	}
	t.kind = kind
	return s.actionPlan(call, t, last)
}

func (s *Server) findType(namespace string, types []string) (*Type, error) {
	name := namespace + "/" + strings.Join(types, "/")
	if kind := s.types[strings.ToLower(name)]; kind != nil {
		return kind, nil
	}
	for _, kind := range s.types {
		if strings.EqualFold(kind.namespace(), namespace) {
			return nil, Errorf(http.StatusNotFound, "InvalidResourceType", "The resource type '%s' could not be found in the namespace '%s'.", strings.Join(types, "/"), namespace)
		}
	}
	return nil, Errorf(http.StatusNotFound, "InvalidResourceNamespace", "The resource namespace '%s' is invalid.", namespace)
}

func (s *Server) resourcePlan(call *Call, t target) (plan, error) {
	p := plan{
		subject: t.kind.Name, versions: t.kind.Versions, lockable: t.id(), resource: t.id(),
		class: t.kind.class(call.Method, "", false), write: true,
	}
	if t.kind.ReadOnly && call.Method != http.MethodGet && call.Method != http.MethodHead {
		return plan{}, Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "The resource type %s does not allow %s.", t.kind.Name, call.Method)
	}
	switch call.Method {
	case http.MethodGet, http.MethodHead:
		p.action, p.write = t.kind.Name+"/read", false
		p.serve = func(call *Call) (Answer, error) { return s.getResource(call, t) }
	case http.MethodPut:
		p.action = t.kind.Name + "/write"
		p.serve = func(call *Call) (Answer, error) { return s.putResource(call, t) }
	case http.MethodPatch:
		p.action = t.kind.Name + "/write"
		p.serve = func(call *Call) (Answer, error) { return s.patchResource(call, t) }
	case http.MethodDelete:
		p.action = t.kind.Name + "/delete"
		p.serve = func(call *Call) (Answer, error) { return s.deleteResource(call, t) }
	default:
		return plan{}, Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "The resource type %s does not allow %s.", t.kind.Name, call.Method)
	}
	return p, nil
}

func (s *Server) actionPlan(call *Call, t target, name string) (plan, error) {
	action, ok := t.kind.Actions[strings.ToLower(name)]
	if !ok || len(t.names) == 0 {
		return plan{}, notFound(call.Path)
	}
	if action.Method != call.Method {
		return plan{}, Errorf(http.StatusMethodNotAllowed, "MethodNotAllowed", "The operation %s allows %s only.", name, action.Method)
	}
	permission := t.kind.Name + "/" + name + "/action"
	if action.Method == http.MethodGet {
		permission = t.kind.Name + "/" + name + "/read"
	}
	return plan{
		subject: t.kind.Name, versions: t.kind.Versions, action: permission, lockable: t.id(), resource: t.id(), write: action.Write,
		class: t.kind.class(call.Method, strings.ToLower(name), false),
		serve: func(call *Call) (Answer, error) {
			doc, err := s.find(call.View, t)
			if err != nil {
				return Answer{}, err
			}
			if action.Write && Busy(doc) {
				return Answer{}, busyError(doc)
			}
			return action.Serve(call, doc)
		},
	}, nil
}

// TypeOf returns the namespace and type of a resource id, or "" when it is not one.
func TypeOf(id string) string {
	lower := strings.ToLower(id)
	at := strings.LastIndex(lower, "/providers/")
	if at < 0 {
		return ""
	}
	parts := splitPath(id[at+len("/providers/"):])
	if len(parts)%2 == 0 {
		return ""
	}
	var name strings.Builder
	name.WriteString(parts[0])
	for i := 1; i < len(parts); i += 2 {
		name.WriteString("/" + parts[i])
	}
	return name.String()
}

func lastSegment(id string) string { return id[strings.LastIndex(id, "/")+1:] }
