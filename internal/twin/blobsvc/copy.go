package blobsvc

import (
	"encoding/base64"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/access"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

// copyState is what a blob says about the copy that made it; the zero value says nothing.
type copyState struct {
	ID     string    `json:"id,omitempty"`
	Source string    `json:"source,omitempty"` // without a SAS
	Done   time.Time `json:"done,omitzero"`
	Size   int64     `json:"size,omitempty"`
	Status string    `json:"-"` // set by at
}

func (p copyState) at(now time.Time) copyState {
	if p.ID != "" {
		p.Status = "success"
		if now.Before(p.Done) {
			p.Status = "pending"
		}
	}
	return p
}

func (p copyState) progress() string {
	if p.Status == "pending" {
		return "0/" + formatInt(p.Size)
	}
	return formatInt(p.Size) + "/" + formatInt(p.Size)
}

func (p copyState) show(header http.Header) {
	if p.ID == "" {
		return
	}
	header.Set("x-ms-copy-id", p.ID)
	header.Set("x-ms-copy-source", p.Source)
	header.Set("x-ms-copy-status", p.Status)
	header.Set("x-ms-copy-progress", p.progress())
	if p.Status == "success" {
		header.Set("x-ms-copy-completion-time", httpTime(p.Done))
	}
}

// copyBlob is Copy Blob and, with x-ms-requires-sync, Copy Blob From URL, within this service. A source in the archive
// is copied to an online tier by Copy Blob alone, within the account, and is readable when the rehydration is done.
func (s *Service) copyBlob(c *call) error {
	sync := strings.EqualFold(c.r.Header.Get("x-ms-requires-sync"), "true")
	if c.r.Header.Get("x-ms-blob-type") != "" { // Put Blob From URL
		return errNotImplemented
	}
	source, shown, err := s.copySource(c)
	if err != nil {
		return err
	}
	v, err := s.copyOf(c, source, sync)
	if err != nil {
		return err
	}
	v.Copy.Source = shown
	if err := s.create(c, v, nil); err != nil {
		s.content.Remove(v.File)
		return err
	}
	header := c.w.Header()
	header.Set("x-ms-copy-id", v.Copy.ID)
	header.Set("x-ms-copy-status", v.Copy.at(c.now).Status)
	if sync && v.MD5 != nil {
		header.Set("Content-MD5", base64.StdEncoding.EncodeToString(v.MD5))
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

var errCopySource = refuse(http.StatusForbidden, "CannotVerifyCopySource", "The source of the copy cannot be read with what the request and the source's URL carry.")

// copySource finds the source's name and proves the right to read it: by the SAS in its URL, or by a request that is
// authorised for the whole account of the source.
func (s *Service) copySource(c *call) (call, string, error) {
	source := call{w: discardHeaders{http.Header{}}, now: c.now}
	u, err := url.Parse(c.r.Header.Get("x-ms-copy-source"))
	if err != nil {
		return source, "", refusal.InvalidHeader("x-ms-copy-source")
	}
	if base, err := url.Parse(s.cfg.BaseURL()); err != nil || u.Host != base.Host && u.Host != c.r.Host && !s.OwnsHost(u.Host) {
		return source, "", refuse(http.StatusBadRequest, "CannotVerifyCopySource", "The twin copies from its own accounts alone.")
	}
	source.r = &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: sourceConditions(c.r.Header), TLS: c.r.TLS, RemoteAddr: c.r.RemoteAddr}
	source.q = u.Query()
	if err := s.parseTarget(&source); err != nil {
		return source, "", err
	}
	if source.blob == "" {
		return source, "", refusal.InvalidHeader("x-ms-copy-source")
	}
	shown := *u
	shown.RawQuery = ""
	if !source.q.Has("sig") {
		if c.grant.sas || source.account != c.account {
			return source, "", errCopySource
		}
		return source, shown.String(), nil
	}
	s.mu.RLock()
	a := s.accounts[source.account]
	s.mu.RUnlock()
	if a == nil {
		return source, "", errCopySource
	}
	if err := s.checkSAS(&source, operation{level: access.Blob, needs: "r"}, a.Account); err != nil {
		return source, "", errCopySource
	}
	return source, shown.String(), nil
}

// sourceConditions returns the x-ms-source-if-… headers under their plain names.
func sourceConditions(header http.Header) http.Header {
	plain := http.Header{}
	for _, name := range []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since"} {
		if value := header.Get("x-ms-source-" + name); value != "" {
			plain.Set(name, value)
		}
	}
	return plain
}

// copyOf makes the version that the copy will be, with a second name for the source's bytes.
func (s *Service) copyOf(c *call, source call, sync bool) (*version, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	_, old, _, err := s.versionAsked(&source)
	if err != nil {
		return nil, err
	}
	cond, err := source.conditions()
	if err != nil {
		return nil, err
	}
	if cond.forRead(old) != nil {
		return nil, refuse(http.StatusPreconditionFailed, "SourceConditionNotMet", "A condition on the source does not hold.")
	}
	v := &version{Size: old.Size, MD5: slices.Clone(old.MD5), Headers: maps.Clone(old.Headers), Blocks: slices.Clone(old.Blocks)}
	v.Copy = copyState{ID: uuid.NewString(), Done: c.now, Size: old.Size}
	if v.Tier, err = c.tierAtBirth(); err != nil {
		return nil, err
	}
	if old.Tier.at(c.now).archived() {
		if sync || source.account != c.account || v.Tier.archived() {
			return nil, errArchived
		}
		archive := tier{Name: "Archive", Changed: c.now}
		if v.Tier, err = s.moveTier(c, archive, v.Tier.Name); err != nil {
			return nil, err
		}
		v.Copy.Done = v.Tier.Ready
	}
	if v.Metadata, err = c.metadata(); err != nil {
		return nil, err
	}
	if v.Metadata == nil {
		v.Metadata = maps.Clone(old.Metadata)
	}
	if v.Metadata == nil {
		v.Metadata = map[string]string{}
	}
	v.File, err = s.content.Link(old.File)
	return v, err
}

// discardHeaders is the answer of a request that is only judged, never answered.
type discardHeaders struct{ header http.Header }

func (d discardHeaders) Header() http.Header         { return d.header }
func (d discardHeaders) Write(p []byte) (int, error) { return len(p), nil }
func (d discardHeaders) WriteHeader(int)             {}
