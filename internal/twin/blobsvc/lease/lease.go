// Package lease is the state machine of leases on blobs and containers: acquire, renew, change, release, break (REST
// reference, "Lease Blob" and "Lease Container", which have one table). Time comes in; nothing is kept here.
package lease

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

const (
	leaseSecondsMin   = 15
	leaseSecondsMax   = 60
	leaseForever      = -1
	breakSecondsLimit = 60
)

// Lease is a lease on a blob or container; the zero value is none.
type Lease struct {
	ID      string    `json:"id,omitempty"`
	Seconds int       `json:"seconds,omitempty"` // leaseForever, or 15 to 60
	Expires time.Time `json:"expires,omitzero"`  // when it lasts for a time
	BreakAt time.Time `json:"breakAt,omitzero"`  // set once it was broken
}

// State is available, leased, expired, breaking or broken.
func (l Lease) State(now time.Time) string {
	switch {
	case l.ID == "":
		return "available"
	case !l.BreakAt.IsZero() && now.Before(l.BreakAt):
		return "breaking"
	case !l.BreakAt.IsZero():
		return "broken"
	case l.Seconds == leaseForever || now.Before(l.Expires):
		return "leased"
	}
	return "expired"
}

// Active reports whether the lease protects what it is on.
func (l Lease) Active(now time.Time) bool {
	state := l.State(now)
	return state == "leased" || state == "breaking"
}

// ForWrite judges a change with the lease id that the request carries; kind is Blob or Container.
func (l Lease) ForWrite(id, kind string, now time.Time) error {
	switch active := l.Active(now); {
	case active && id == "":
		return refusal.New(http.StatusPreconditionFailed, "LeaseIdMissing", "There is a lease, and the request names none.")
	case active && !strings.EqualFold(id, l.ID):
		return refusal.New(http.StatusPreconditionFailed, "LeaseIdMismatchWith"+kind+"Operation", "The request names another lease.")
	case !active && id != "" && strings.EqualFold(id, l.ID):
		return refusal.New(http.StatusPreconditionFailed, "LeaseLost", "The lease has ended.")
	case !active && id != "":
		return refusal.New(http.StatusPreconditionFailed, "LeaseNotPresentWith"+kind+"Operation", "There is no lease.")
	}
	return nil
}

// ForRead judges a read, which need not name the lease.
func (l Lease) ForRead(id, kind string, now time.Time) error {
	if id == "" {
		return nil
	}
	return l.ForWrite(id, kind, now)
}

// AfterWrite forgets a lease that has ended, so that it cannot be renewed over a change.
func (l Lease) AfterWrite(now time.Time) Lease {
	if l.Active(now) {
		return l
	}
	return Lease{}
}

// Show writes the lease's headers.
func (l Lease) Show(header http.Header, now time.Time) {
	state, status := l.State(now), "unlocked"
	if l.Active(now) {
		status = "locked"
	}
	header.Set("x-ms-lease-state", state)
	header.Set("x-ms-lease-status", status)
	if state == "leased" {
		header.Set("x-ms-lease-duration", l.duration())
	}
}

func (l Lease) duration() string {
	if l.Seconds == leaseForever {
		return "infinite"
	}
	return "fixed"
}

// Change carries out the lease action that the request's headers ask for, sets the answer's headers and returns its
// status. After an error the lease is as before.
func (l *Lease) Change(request, answer http.Header, now time.Time) (int, error) {
	c := call{request, answer, now}
	id, proposed := c.request.Get("x-ms-lease-id"), c.request.Get("x-ms-proposed-lease-id")
	if proposed != "" {
		if _, err := uuid.Parse(proposed); err != nil {
			return 0, refusal.InvalidHeader("x-ms-proposed-lease-id")
		}
	}
	switch action := strings.ToLower(c.request.Get("x-ms-lease-action")); action {
	case "acquire":
		return l.acquire(c, proposed)
	case "renew", "change", "release":
		if id == "" {
			return 0, refusal.MissingHeader("x-ms-lease-id")
		}
		return l.byHolder(c, action, id, proposed)
	case "break":
		return l.breakUp(c)
	}
	return 0, refusal.InvalidHeader("x-ms-lease-action")
}

// call is one lease action on its way.
type call struct {
	request, answer http.Header
	now             time.Time
}

func leaseConflict(code string) error {
	return refusal.New(http.StatusConflict, code, "The lease's state does not permit this.")
}

func (l *Lease) acquire(c call, proposed string) (int, error) {
	seconds, err := strconv.Atoi(c.request.Get("x-ms-lease-duration"))
	if err != nil || seconds != leaseForever && (seconds < leaseSecondsMin || seconds > leaseSecondsMax) {
		return 0, refusal.InvalidHeader("x-ms-lease-duration")
	}
	switch state := l.State(c.now); {
	case state == "breaking" && strings.EqualFold(l.ID, proposed):
		return 0, leaseConflict("LeaseIsBreakingAndCannotBeAcquired")
	case l.Active(c.now) && !strings.EqualFold(l.ID, proposed):
		return 0, leaseConflict("LeaseAlreadyPresent")
	}
	if proposed == "" {
		proposed = uuid.NewString()
	}
	*l = Lease{ID: proposed, Seconds: seconds}
	l.extend(c.now)
	c.answer.Set("x-ms-lease-id", l.ID)
	return http.StatusCreated, nil
}

func (l *Lease) extend(now time.Time) {
	if l.Seconds != leaseForever {
		l.Expires = now.Add(time.Duration(l.Seconds) * time.Second)
	}
}

func (l *Lease) byHolder(c call, action, id, proposed string) (int, error) {
	state := l.State(c.now)
	matches := strings.EqualFold(id, l.ID) || action == "change" && proposed != "" && strings.EqualFold(proposed, l.ID)
	switch {
	case state == "available":
		return 0, leaseConflict("LeaseNotPresentWithLeaseOperation")
	case !matches:
		return 0, leaseConflict("LeaseIdMismatchWithLeaseOperation")
	case action == "release":
		*l = Lease{}
		return http.StatusOK, nil
	case action == "renew" && (state == "breaking" || state == "broken"):
		return 0, leaseConflict("LeaseIsBrokenAndCannotBeRenewed")
	case action == "renew":
		l.extend(c.now)
	case state == "breaking":
		return 0, leaseConflict("LeaseIsBreakingAndCannotBeChanged")
	case state != "leased":
		return 0, leaseConflict("LeaseNotPresentWithLeaseOperation")
	case proposed == "":
		return 0, refusal.MissingHeader("x-ms-proposed-lease-id")
	default:
		l.ID = proposed
	}
	c.answer.Set("x-ms-lease-id", l.ID)
	return http.StatusOK, nil
}

// breakUp ends the lease after the period asked for, or after what is left of it when that is less. A lease without end
// breaks at once unless a period is given.
func (l *Lease) breakUp(c call) (int, error) {
	if l.State(c.now) == "available" {
		return 0, leaseConflict("LeaseNotPresentWithLeaseOperation")
	}
	left := time.Duration(0)
	switch l.State(c.now) {
	case "breaking":
		left = l.BreakAt.Sub(c.now)
	case "leased":
		left = l.Expires.Sub(c.now)
		if l.Seconds == leaseForever {
			left = 0
		}
	}
	if text := c.request.Get("x-ms-lease-break-period"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 0 || seconds > breakSecondsLimit {
			return 0, refusal.InvalidHeader("x-ms-lease-break-period")
		}
		period := time.Duration(seconds) * time.Second
		if l.State(c.now) == "leased" && l.Seconds == leaseForever || period < left {
			left = period
		}
	}
	l.BreakAt = c.now.Add(left)
	c.answer.Set("x-ms-lease-time", strconv.Itoa(int(math.Ceil(left.Seconds()))))
	return http.StatusAccepted, nil
}
