package blobsvc

import (
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/access"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

// policyDaysMax is the longest retention that the platform takes.
const policyDaysMax = 146_000

// policy is a time-based retention policy of a version; the zero value is none.
type policy struct {
	Until  time.Time `json:"until,omitzero"`
	Locked bool      `json:"locked,omitempty"` // else it may be shortened and removed
}

// protected reports whether the version may not be deleted: both sorts of policy protect until their time.
func (v *version) protected(now time.Time) bool { return v.Hold || now.Before(v.Policy.Until) }

func (p policy) mode() string {
	if p.Locked {
		return "Locked"
	}
	return "Unlocked"
}

func (v *version) showProtection(header http.Header) {
	if !v.Policy.Until.IsZero() {
		header.Set("x-ms-immutability-policy-until-date", httpTime(v.Policy.Until))
		header.Set("x-ms-immutability-policy-mode", strings.ToLower(v.Policy.mode()))
	}
	if v.Hold {
		header.Set("x-ms-legal-hold", "true")
	}
}

// policyAtBirth reads the protection that an upload asks for. A container without version-level immutability refuses it.
func (c *call) policyAtBirth(cont *container) (policy, bool, error) {
	asked := c.r.Header.Get("x-ms-immutability-policy-until-date") != "" || c.r.Header.Get("x-ms-immutability-policy-mode") != ""
	hold, err := c.holdAsked()
	if err != nil || !asked && !hold {
		return policy{}, hold, err
	}
	if err := c.mayProtect(cont); err != nil {
		return policy{}, false, err
	}
	if !asked {
		return policy{}, hold, nil
	}
	p, err := c.policyAsked()
	return p, hold, err
}

func (c *call) holdAsked() (bool, error) {
	switch text := c.r.Header.Get("x-ms-legal-hold"); {
	case text == "", strings.EqualFold(text, "false"):
		return false, nil
	case strings.EqualFold(text, "true"):
		return true, nil
	}
	return false, refusal.InvalidHeader("x-ms-legal-hold")
}

// mayProtect: the code for a container without support is our choice; the reference names none.
func (c *call) mayProtect(cont *container) error {
	if !cont.VersionImmutability {
		return refuse(http.StatusBadRequest, "UnsupportedHeader", "The container does not have version-level immutability.")
	}
	if !c.grant.may("i") {
		return access.ErrPermission
	}
	return nil
}

func (c *call) policyAsked() (policy, error) {
	until, err := http.ParseTime(c.r.Header.Get("x-ms-immutability-policy-until-date"))
	if err != nil || !until.After(c.now) || until.After(c.now.AddDate(0, 0, policyDaysMax)) {
		return policy{}, refusal.InvalidHeader("x-ms-immutability-policy-until-date")
	}
	switch mode := c.r.Header.Get("x-ms-immutability-policy-mode"); {
	case mode == "", strings.EqualFold(mode, "Unlocked"):
		return policy{Until: until}, nil
	case strings.EqualFold(mode, "Locked"):
		return policy{Until: until, Locked: true}, nil
	}
	return policy{}, refusal.InvalidHeader("x-ms-immutability-policy-mode")
}

// setPolicy is Set Blob Immutability Policy. A locked policy only grows.
func (s *Service) setPolicy(c *call) error {
	asked, err := c.policyAsked()
	if err != nil {
		return err
	}
	return s.protect(c, func(v *version) error {
		if v.Policy.Locked && (!asked.Locked || asked.Until.Before(v.Policy.Until)) {
			return errImmutable
		}
		v.Policy = asked
		c.w.Header().Set("x-ms-immutability-policy-until-date", httpTime(asked.Until))
		c.w.Header().Set("x-ms-immutability-policy-mode", strings.ToLower(asked.mode()))
		return nil
	})
}

// deletePolicy is Delete Blob Immutability Policy.
func (s *Service) deletePolicy(c *call) error {
	return s.protect(c, func(v *version) error {
		if v.Policy.Locked {
			return refuse(http.StatusConflict, "ImmutabilityPolicyDeleteOnLockedPolicy", "A locked policy cannot be deleted.")
		}
		v.Policy = policy{}
		return nil
	})
}

// setLegalHold is Set Blob Legal Hold.
func (s *Service) setLegalHold(c *call) error {
	if c.r.Header.Get("x-ms-legal-hold") == "" {
		return refusal.MissingHeader("x-ms-legal-hold")
	}
	hold, err := c.holdAsked()
	if err != nil {
		return err
	}
	return s.protect(c, func(v *version) error {
		v.Hold = hold
		c.w.Header().Set("x-ms-legal-hold", strings.ToLower(c.r.Header.Get("x-ms-legal-hold")))
		return nil
	})
}

// protect changes the protection of the version asked for. Neither ETag nor time of change move.
func (s *Service) protect(c *call, change func(v *version) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cont, err := s.container(c.target)
	if err != nil {
		return err
	}
	b, old, _, err := s.versionAsked(c)
	if err != nil {
		return err
	}
	if err := c.mayProtect(cont); err != nil {
		return err
	}
	cond, err := c.conditions()
	if err != nil {
		return err
	}
	if !cond.before.IsZero() && old.modified().After(cond.before) {
		return errConditionNotMet
	}
	v := *old
	if err := change(&v); err != nil {
		return err
	}
	next := b.clone()
	next.replace(old, &v)
	if err := s.saveBlob(c.target, b, next); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}
