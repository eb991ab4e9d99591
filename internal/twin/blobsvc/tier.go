package blobsvc

import (
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

// tier is where a version is kept. Moving out of the archive takes until Ready; at tells what holds at an instant.
type tier struct {
	Name     string    `json:"name,omitempty"` // Hot, Cool, Cold or Archive
	Inferred bool      `json:"inferred,omitempty"`
	Changed  time.Time `json:"changed,omitzero"`
	Target   string    `json:"target,omitempty"` // set while the version is being rehydrated
	Ready    time.Time `json:"ready,omitzero"`
	Priority string    `json:"priority,omitempty"` // Standard or High
}

// at returns the tier as it is at that time: a rehydration whose time has come is done.
func (t tier) at(now time.Time) tier {
	if t.Target == "" || now.Before(t.Ready) {
		return t
	}
	return tier{Name: t.Target, Changed: t.Ready}
}

func (t tier) archived() bool { return t.Name == "Archive" }

func (t tier) archiveStatus() string {
	if t.Target == "" {
		return ""
	}
	return "rehydrate-pending-to-" + strings.ToLower(t.Target)
}

func (t tier) show(header http.Header) {
	header.Set("x-ms-access-tier", t.Name)
	if t.Inferred {
		header.Set("x-ms-access-tier-inferred", "true")
	} else {
		header.Set("x-ms-access-tier-change-time", httpTime(t.Changed))
	}
	if t.Target != "" {
		header.Set("x-ms-archive-status", t.archiveStatus())
		header.Set("x-ms-rehydrate-priority", t.Priority)
	}
}

// tierAtBirth reads the tier of a new blob; without one it is Hot, the account's default.
func (c *call) tierAtBirth() (tier, error) {
	name := c.r.Header.Get("x-ms-access-tier")
	if name == "" {
		return tier{Name: "Hot", Inferred: true}, nil
	}
	name, err := tierName(name)
	return tier{Name: name, Changed: c.now}, err
}

func tierName(text string) (string, error) {
	for _, name := range []string{"Hot", "Cool", "Cold", "Archive"} {
		if strings.EqualFold(text, name) {
			return name, nil
		}
	}
	return "", refusal.InvalidHeader("x-ms-access-tier")
}

// setTier is Set Blob Tier: 200 when it is done at once, 202 when the version has to come out of the archive first.
func (s *Service) setTier(c *call) error {
	name, err := tierName(c.r.Header.Get("x-ms-access-tier"))
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b, old, isCurrent, err := s.versionAsked(c)
	if err != nil {
		return err
	}
	if isCurrent {
		if err := b.Lease.ForRead(c.r.Header.Get("x-ms-lease-id"), "Blob", c.now); err != nil {
			return err
		}
	}
	v := *old
	if v.Tier, err = s.moveTier(c, old.Tier.at(c.now), name); err != nil {
		return err
	}
	next := b.clone()
	next.replace(old, &v)
	if err := s.saveBlob(c.target, b, next); err != nil {
		return err
	}
	if v.Tier.Target != "" {
		c.w.WriteHeader(http.StatusAccepted)
	} else {
		c.w.WriteHeader(http.StatusOK)
	}
	return nil
}

// moveTier returns the tier after a request to move. While a version is being rehydrated only its priority can be raised.
func (s *Service) moveTier(c *call, from tier, to string) (tier, error) {
	priority, delay, err := s.rehydration(c)
	switch {
	case err != nil:
		return tier{}, err
	case from.Target != "" && (from.Target != to || from.Priority == "High" && priority != "High"):
		return tier{}, refuse(http.StatusConflict, "BlobBeingRehydrated", "The blob is being rehydrated.")
	case from.Target != "":
		if ready := c.now.Add(delay); ready.Before(from.Ready) {
			from.Ready = ready
		}
		from.Priority = priority
		return from, nil
	case from.archived() && to != "Archive":
		from.Target, from.Priority, from.Ready = to, priority, c.now.Add(delay)
		return from, nil
	}
	return tier{Name: to, Changed: c.now}, nil
}

func (s *Service) rehydration(c *call) (priority string, delay time.Duration, err error) {
	switch text := c.r.Header.Get("x-ms-rehydrate-priority"); {
	case text == "", strings.EqualFold(text, "Standard"):
		return "Standard", s.cfg.RehydrateStandard, nil
	case strings.EqualFold(text, "High"):
		return "High", s.cfg.RehydrateHigh, nil
	}
	return "", 0, refusal.InvalidHeader("x-ms-rehydrate-priority")
}
