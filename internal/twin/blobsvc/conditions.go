package blobsvc

import (
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

var (
	errConditionNotMet = refuse(http.StatusPreconditionFailed, "ConditionNotMet", "A condition of the request does not hold.")
	errNotModified     = refuse(http.StatusNotModified, "ConditionNotMet", "The blob has not changed.")
	errBlobExists      = refuse(http.StatusConflict, "BlobAlreadyExists", "The specified blob already exists.")
)

// conditions are the conditional headers of a request.
type conditions struct {
	match, noneMatch string
	since, before    time.Time
}

func (c *call) conditions() (conditions, error) { return conditionsFrom(c.r.Header, "") }

// conditionsFrom reads the headers If-Match and so on, or those that begin with prefix.
func conditionsFrom(header http.Header, prefix string) (conditions, error) {
	cond := conditions{match: header.Get(prefix + "If-Match"), noneMatch: header.Get(prefix + "If-None-Match")}
	for name, into := range map[string]*time.Time{prefix + "If-Modified-Since": &cond.since, prefix + "If-Unmodified-Since": &cond.before} {
		text := header.Get(name)
		if text == "" {
			continue
		}
		t, err := http.ParseTime(text)
		if err != nil {
			return cond, refusal.InvalidHeader(name)
		}
		*into = t
	}
	return cond, nil
}

// hold reports whether the conditions hold for a resource; etag is "" when there is none.
func (cond conditions) hold(etag string, modified time.Time) (match, fresh bool) {
	match = (cond.match == "" || etag != "" && tagIn(etag, cond.match)) &&
		(cond.before.IsZero() || etag == "" || !modified.After(cond.before))
	fresh = (cond.noneMatch == "" || etag == "" || !tagIn(etag, cond.noneMatch)) &&
		(cond.since.IsZero() || etag == "" || modified.After(cond.since))
	return match, fresh
}

// forWrite judges a request that changes v; v is nil when there is no blob.
func (cond conditions) forWrite(v *version) error {
	if match, fresh := cond.holdFor(v); !match || !fresh {
		return errConditionNotMet
	}
	return nil
}

// forCreate is forWrite for the operations that make blobs: what "If-None-Match: *" refuses exists already.
func (cond conditions) forCreate(v *version) error {
	if v != nil && cond.noneMatch == "*" {
		return errBlobExists
	}
	return cond.forWrite(v)
}

// forRead judges a request that reads v.
func (cond conditions) forRead(v *version) error {
	switch match, fresh := cond.holdFor(v); {
	case !match:
		return errConditionNotMet
	case !fresh:
		return errNotModified
	}
	return nil
}

func (cond conditions) holdFor(v *version) (match, fresh bool) {
	if v == nil {
		return cond.hold("", time.Time{})
	}
	return cond.hold(v.etag(), v.modified())
}

func tagIn(etag, list string) bool {
	for tag := range strings.SplitSeq(list, ",") {
		if tag = strings.TrimSpace(tag); tag == "*" || tag == etag || `"`+tag+`"` == etag {
			return true
		}
	}
	return false
}
