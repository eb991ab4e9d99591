// Package arm is the twin's front of Azure Resource Manager: what every resource provider shares. It parses paths without
// regard to casing, checks api-versions, callers, permissions, rate limits and locks, keeps long-running operations and
// pages lists; it serves subscriptions, locations, resource groups, resource providers, generic resources, locks and
// permissions itself. Providers (compute, network) register resource types and say only what is special about them.
//
// It promises what callers of the platform rely on: an error body everywhere, both polling headers on every long-running
// operation, a non-null "value" in every list, a stable order across pages, operations that a restart of the twin does not
// lose. Work takes effect at two defined moments: when a request is accepted, and when its operation comes due, which is
// noticed by the next request or by Settle. It must never be kinder than the platform: a rule that is not known here is a
// refusal, not a success.
//
// Sources: reference/azure.md §1.6, §4, §6.5, §10, §13 and reference/azure-sdk-and-emulation.md §1, §2, §7.
package arm

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/state"
)

// Config says what a Server needs; State and Clock are required.
type Config struct {
	State    *state.Store
	Clock    clock.Clock
	TenantID string
	// Subscriptions are made if they do not exist yet; estates add theirs through EnsureSubscription.
	Subscriptions []Subscription
	// PublicURL is what polling and page links begin with, without a trailing slash; nil takes the request's host, as TLS.
	PublicURL func() string
	// Authenticate names the caller or refuses; nil lets everybody in as "anonymous". An error that is an *Error is
	// answered as it stands, any other as 401 InvalidAuthenticationToken.
	Authenticate func(*http.Request) (principal string, err error)
	// Permissions are what every caller may do; nil means everything.
	Permissions []Permission
	Limits      Limits
	// PageSize is the most that one page of a list holds; 0 means 100.
	PageSize int
	// Lateness hides resources younger than this from every list.
	Lateness time.Duration
	// OperationTime is how long an operation takes, 0 meaning 5 ms; PollAfter is what pollers are asked to wait, 0 meaning 10 ms.
	OperationTime, PollAfter time.Duration
}

// The defaults of Config, chosen so that tests are fast.
const (
	defaultPageSize      = 100
	defaultOperationTime = 5 * time.Millisecond
	defaultPollAfter     = 10 * time.Millisecond
	requestBytesMax      = 4 << 20 // ARM's own limit on request bodies
)

// Server answers ARM requests. Register types and routes before serving; everything else is safe for concurrent use.
type Server struct {
	config    Config
	state     *state.Store
	clock     clock.Clock
	routes    []Route
	types     map[string]*Type // by lower-cased name; fixed once serving begins
	finishers map[string]Finisher
	throttle  *throttle
	nextDue   atomic.Int64 // when the next operation comes due, in Unix nanoseconds; maxDue: none

	mu          sync.Mutex
	permissions []Permission  // guarded by mu
	lateness    time.Duration // guarded by mu
}

// New makes the server and the subscriptions of the Config. The error has KindInvalid when the Config is incomplete.
func New(config Config) (*Server, error) {
	if config.State == nil || config.Clock == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the ARM front needs a state and a clock")
	}
	if config.PageSize <= 0 {
		config.PageSize = defaultPageSize
	}
	if config.OperationTime <= 0 {
		config.OperationTime = defaultOperationTime
	}
	if config.PollAfter <= 0 {
		config.PollAfter = defaultPollAfter
	}
	if config.Permissions == nil {
		config.Permissions = []Permission{{Actions: []string{"*"}}}
	}
	s := &Server{
		config: config, state: config.State, clock: config.Clock,
		types: map[string]*Type{}, finishers: map[string]Finisher{},
		throttle:    newThrottle(config.Clock, config.Limits),
		permissions: config.Permissions, lateness: config.Lateness,
	}
	s.finishers[finishProvision] = s.provisioned
	s.finishers[finishDelete] = s.deleted
	s.finishers[finishDeleteGroup] = s.groupDeleted
	s.routes = s.ownRoutes()
	err := s.state.Update(func(tx *state.Tx) error {
		for _, subscription := range config.Subscriptions {
			EnsureSubscription(tx, subscription, s.clock.Now())
		}
		return nil
	})
	return s, err
}

// Register adds a resource type. It is for the wiring, before serving.
func (s *Server) Register(t Type) { s.types[strings.ToLower(t.Name)] = &t }

// Act adds an action to a type that another provider registered. It is for the wiring, before serving.
func (s *Server) Act(resourceType, name string, action Action) {
	kind := s.types[strings.ToLower(resourceType)]
	holdfast.Invariant(kind != nil, "an action of a type that nobody registered")
	kind.Actions[strings.ToLower(name)] = action
}

// Route adds a route that is not a resource's. It is for the wiring, before serving.
func (s *Server) Route(r Route) { s.routes = append(s.routes, r) }

// Finish says what completes the operations of a kind. It is for the wiring, before serving.
func (s *Server) Finish(kind string, finisher Finisher) { s.finishers[kind] = finisher }

// SetPermissions changes what callers may do; nil means everything.
func (s *Server) SetPermissions(permissions []Permission) {
	if permissions == nil {
		permissions = []Permission{{Actions: []string{"*"}}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.permissions = permissions
}

// SetLimits changes the rate limits; buckets start full again.
func (s *Server) SetLimits(limits Limits) { s.throttle.set(limits) }

// SetLateness changes how young a resource must be to be missing from lists.
func (s *Server) SetLateness(lateness time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lateness = lateness
}

// Handler serves ARM.
func (s *Server) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Server) granted() []Permission {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.permissions
}

func (s *Server) lateBy() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lateness
}
