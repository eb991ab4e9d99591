package blobsvc

import (
	"errors"
	"net/http"
	"slices"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/lease"
)

// setMetadata is Set Blob Metadata. Where versions are kept it makes a new one with the same content.
func (s *Service) setMetadata(c *call) error {
	metadata, err := c.metadata()
	if err != nil {
		return err
	}
	return s.changeCurrent(c, func(cont *container, next *blobRecord, v *version) error {
		v.Metadata = metadata
		v.Changed = s.nextStamp()
		if !cont.VersionImmutability {
			return nil
		}
		file, err := s.content.Link(v.File)
		if err != nil {
			return err
		}
		v.File, v.Stamp, v.Policy, v.Hold = file, v.Changed, policy{}, false
		next.Versions = append(next.Versions, v)
		return nil
	})
}

// setHeaders is Set Blob Properties: all headers are replaced, by nothing when the request has none.
func (s *Service) setHeaders(c *call) error {
	md5Sum, err := c.checksum("x-ms-blob-content-md5", "InvalidMd5", checksumMD5Bytes)
	if err != nil {
		return err
	}
	return s.changeCurrent(c, func(cont *container, _ *blobRecord, v *version) error {
		if cont.VersionImmutability && v.protected(c.now) {
			return errImmutable
		}
		v.Headers, v.MD5, v.Changed = c.contentHeaders(false), md5Sum, s.nextStamp()
		return nil
	})
}

// changeCurrent lets change alter a copy of the current version, which then takes its place, unless change has put it
// into next by itself.
func (s *Service) changeCurrent(c *call, change func(cont *container, next *blobRecord, v *version) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cont, b, err := s.existing(c)
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
	if err := b.Lease.ForWrite(c.r.Header.Get("x-ms-lease-id"), "Blob", c.now); err != nil {
		return err
	}
	next, v := b.clone(), *b.current()
	if err := change(cont, next, &v); err != nil {
		return err
	}
	if !slices.Contains(next.Versions, &v) {
		next.replace(b.current(), &v)
	}
	next.Lease = next.Lease.AfterWrite(c.now)
	if err := s.saveBlob(c.target, b, next); err != nil {
		return err
	}
	c.answerWrite(cont, &v)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// deleteBlob is Delete Blob. Where versions are kept, deleting the blob makes the current version an older one, locked or
// not, and deleting a version by its id removes it, unless it is protected.
func (s *Service) deleteBlob(c *call) error {
	if c.r.Header.Get("x-ms-delete-snapshots") == "only" {
		return errNotImplemented
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cont, b, err := s.blob(c.target)
	if err != nil {
		return err
	}
	var next *blobRecord
	if c.q.Has("versionid") {
		next, err = c.withoutVersion(cont, b)
	} else {
		next, err = c.withoutCurrent(cont, b)
	}
	if err != nil {
		return err
	}
	if err := s.saveBlob(c.target, b, next); err != nil {
		return err
	}
	c.w.Header().Set("x-ms-delete-type-permanent", "true")
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

func (c *call) withoutCurrent(cont *container, b *blobRecord) (*blobRecord, error) {
	v := b.current()
	if v == nil {
		return nil, errBlobNotFound
	}
	cond, err := c.conditions()
	if err != nil {
		return nil, err
	}
	err = errors.Join(cond.forWrite(v), b.Lease.ForWrite(c.r.Header.Get("x-ms-lease-id"), "Blob", c.now))
	if err != nil {
		return nil, err
	}
	next := b.clone()
	next.Current, next.Blocks, next.Lease = false, nil, lease.Lease{}
	if !cont.VersionImmutability {
		next.Versions = nil
	}
	return next, nil
}

func (c *call) withoutVersion(cont *container, b *blobRecord) (*blobRecord, error) {
	v, isCurrent := b.find(c.q.Get("versionid"))
	switch {
	case !cont.VersionImmutability || v == nil:
		return nil, errBlobNotFound
	case isCurrent: // our choice of code: the reference says only that the current version has to be deleted by the blob's name
		return nil, refuse(http.StatusForbidden, "OperationNotAllowedOnRootBlob", "The current version cannot be deleted by its id.")
	case v.protected(c.now):
		return nil, errImmutable
	}
	next := b.clone()
	next.Versions = slices.DeleteFunc(next.Versions, func(other *version) bool { return other == v })
	return next, nil
}
