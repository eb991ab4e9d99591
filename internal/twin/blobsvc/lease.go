package blobsvc

import (
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
)

const (
	leaseSecondsMin   = 15
	leaseSecondsMax   = 60
	leaseForever      = -1
	breakSecondsLimit = 60
)

// lease is a lease on a blob or container; the zero value is none.
type lease struct {
	ID      string    `json:"id,omitempty"`
	Seconds int       `json:"seconds,omitempty"` // leaseForever, or 15 to 60
	Expires time.Time `json:"expires,omitzero"`  // when it lasts for a time
	BreakAt time.Time `json:"breakAt,omitzero"`  // set once it was broken
}

// state is available, leased, expired, breaking or broken.
func (l lease) state(now time.Time) string {
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

func (l lease) active(now time.Time) bool {
	state := l.state(now)
	return state == "leased" || state == "breaking"
}

// forWrite judges a change with the lease id that the request carries; kind is Blob or Container.
func (l lease) forWrite(id, kind string, now time.Time) error {
	switch active := l.active(now); {
	case active && id == "":
		return refuse(http.StatusPreconditionFailed, "LeaseIdMissing", "There is a lease, and the request names none.")
	case active && !strings.EqualFold(id, l.ID):
		return refuse(http.StatusPreconditionFailed, "LeaseIdMismatchWith"+kind+"Operation", "The request names another lease.")
	case !active && id != "" && strings.EqualFold(id, l.ID):
		return refuse(http.StatusPreconditionFailed, "LeaseLost", "The lease has ended.")
	case !active && id != "":
		return refuse(http.StatusPreconditionFailed, "LeaseNotPresentWith"+kind+"Operation", "There is no lease.")
	}
	return nil
}

// forRead judges a read, which need not name the lease.
func (l lease) forRead(id, kind string, now time.Time) error {
	if id == "" {
		return nil
	}
	return l.forWrite(id, kind, now)
}

// afterWrite forgets a lease that has ended, so that it cannot be renewed over a change.
func (l lease) afterWrite(now time.Time) lease {
	if l.active(now) {
		return l
	}
	return lease{}
}

// show writes the lease's headers.
func (l lease) show(header http.Header, now time.Time) {
	state, status := l.state(now), "unlocked"
	if l.active(now) {
		status = "locked"
	}
	header.Set("x-ms-lease-state", state)
	header.Set("x-ms-lease-status", status)
	if state == "leased" {
		header.Set("x-ms-lease-duration", l.duration())
	}
}

func (l lease) duration() string {
	if l.Seconds == leaseForever {
		return "infinite"
	}
	return "fixed"
}

// leaseContainer is Lease Container.
func (s *Service) leaseContainer(c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cont, err := s.container(c.target)
	if err != nil {
		return err
	}
	cond, err := c.conditions()
	if err != nil {
		return err
	}
	if match, fresh := cond.hold(cont.etag(), stampTime(cont.Stamp).Truncate(time.Second)); !match || !fresh {
		return errConditionNotMet
	}
	next := *cont.containerRecord
	status, err := next.Lease.change(c)
	if err != nil {
		return err
	}
	if err := s.saveContainer(c.account, c.container, &next); err != nil {
		return err
	}
	c.answerTag(next.etag(), stampTime(next.Stamp))
	c.w.WriteHeader(status)
	return nil
}

// leaseBlob is Lease Blob. It changes neither ETag nor time of change.
func (s *Service) leaseBlob(c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, b, err := s.existing(c)
	if err != nil {
		return err
	}
	cond, err := c.conditions()
	if err != nil {
		return err
	}
	if err := cond.forWrite(b.current()); err != nil {
		return err
	}
	next := b.clone()
	status, err := next.Lease.change(c)
	if err != nil {
		return err
	}
	if err := s.saveBlob(c.target, b, next); err != nil {
		return err
	}
	c.answerTag(b.current().etag(), b.current().modified())
	c.w.WriteHeader(status)
	return nil
}

// change carries out the lease action of a request, sets its headers and returns its status.
func (l *lease) change(c *call) (int, error) {
	id, proposed := c.r.Header.Get("x-ms-lease-id"), c.r.Header.Get("x-ms-proposed-lease-id")
	if proposed != "" {
		if _, err := uuid.Parse(proposed); err != nil {
			return 0, invalidHeader("x-ms-proposed-lease-id")
		}
	}
	switch action := strings.ToLower(c.r.Header.Get("x-ms-lease-action")); action {
	case "acquire":
		return l.acquire(c, proposed)
	case "renew", "change", "release":
		if id == "" {
			return 0, missingHeader("x-ms-lease-id")
		}
		return l.byHolder(c, action, id, proposed)
	case "break":
		return l.breakUp(c)
	}
	return 0, invalidHeader("x-ms-lease-action")
}

func leaseConflict(code string) error {
	return refuse(http.StatusConflict, code, "The lease's state does not permit this.")
}

func (l *lease) acquire(c *call, proposed string) (int, error) {
	seconds, err := strconv.Atoi(c.r.Header.Get("x-ms-lease-duration"))
	if err != nil || seconds != leaseForever && (seconds < leaseSecondsMin || seconds > leaseSecondsMax) {
		return 0, invalidHeader("x-ms-lease-duration")
	}
	switch state := l.state(c.now); {
	case state == "breaking" && strings.EqualFold(l.ID, proposed):
		return 0, leaseConflict("LeaseIsBreakingAndCannotBeAcquired")
	case l.active(c.now) && !strings.EqualFold(l.ID, proposed):
		return 0, leaseConflict("LeaseAlreadyPresent")
	}
	if proposed == "" {
		proposed = uuid.NewString()
	}
	*l = lease{ID: proposed, Seconds: seconds}
	l.extend(c.now)
	c.w.Header().Set("x-ms-lease-id", l.ID)
	return http.StatusCreated, nil
}

func (l *lease) extend(now time.Time) {
	if l.Seconds != leaseForever {
		l.Expires = now.Add(time.Duration(l.Seconds) * time.Second)
	}
}

func (l *lease) byHolder(c *call, action, id, proposed string) (int, error) {
	state := l.state(c.now)
	matches := strings.EqualFold(id, l.ID) || action == "change" && proposed != "" && strings.EqualFold(proposed, l.ID)
	switch {
	case state == "available":
		return 0, leaseConflict("LeaseNotPresentWithLeaseOperation")
	case !matches:
		return 0, leaseConflict("LeaseIdMismatchWithLeaseOperation")
	case action == "release":
		*l = lease{}
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
		return 0, missingHeader("x-ms-proposed-lease-id")
	default:
		l.ID = proposed
	}
	c.w.Header().Set("x-ms-lease-id", l.ID)
	return http.StatusOK, nil
}

// breakUp ends the lease after the period asked for, or after what is left of it when that is less. A lease without end
// breaks at once unless a period is given.
func (l *lease) breakUp(c *call) (int, error) {
	if l.state(c.now) == "available" {
		return 0, leaseConflict("LeaseNotPresentWithLeaseOperation")
	}
	left := time.Duration(0)
	switch l.state(c.now) {
	case "breaking":
		left = l.BreakAt.Sub(c.now)
	case "leased":
		left = l.Expires.Sub(c.now)
		if l.Seconds == leaseForever {
			left = 0
		}
	}
	if text := c.r.Header.Get("x-ms-lease-break-period"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil || seconds < 0 || seconds > breakSecondsLimit {
			return 0, invalidHeader("x-ms-lease-break-period")
		}
		period := time.Duration(seconds) * time.Second
		if l.state(c.now) == "leased" && l.Seconds == leaseForever || period < left {
			left = period
		}
	}
	l.BreakAt = c.now.Add(left)
	c.w.Header().Set("x-ms-lease-time", strconv.Itoa(int(math.Ceil(left.Seconds()))))
	return http.StatusAccepted, nil
}
