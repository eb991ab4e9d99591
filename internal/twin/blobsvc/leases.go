package blobsvc

import "time"

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
	status, err := next.Lease.Change(c.r.Header, c.w.Header(), c.now)
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
	status, err := next.Lease.Change(c.r.Header, c.w.Header(), c.now)
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
