package blobsvc

import (
	"encoding/base64"
	"encoding/xml"
	"iter"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
)

const (
	listResultsMax = 5000
	// staleWindow is how far back a list looks past what was made lately, when the stale-list fault is on.
	staleWindow = time.Minute
)

// blobItem is a blob, or one of its versions, in a list.
type blobItem struct {
	XMLName          xml.Name `xml:"Blob"`
	Name             string
	VersionId        string       `xml:",omitempty"` //nolint:revive // the element's name
	IsCurrentVersion bool         `xml:",omitempty"`
	HasVersionsOnly  bool         `xml:",omitempty"`
	Properties       blobListing  `xml:"Properties"`
	Metadata         *metadataXML `xml:",omitempty"`
}

type blobListing struct {
	CreationTime       string `xml:"Creation-Time,omitempty"`
	LastModified       string `xml:"Last-Modified"`
	Etag               string `xml:",omitempty"`
	ContentLength      int64  `xml:"Content-Length"`
	ContentType        string `xml:"Content-Type,omitempty"`
	ContentEncoding    string `xml:"Content-Encoding,omitempty"`
	ContentLanguage    string `xml:"Content-Language,omitempty"`
	ContentMD5         string `xml:"Content-MD5,omitempty"`
	ContentDisposition string `xml:"Content-Disposition,omitempty"`
	CacheControl       string `xml:"Cache-Control,omitempty"`
	BlobType           string
	AccessTier         string `xml:",omitempty"`
	AccessTierInferred bool   `xml:",omitempty"`
	AccessTierChange   string `xml:"AccessTierChangeTime,omitempty"`
	ArchiveStatus      string `xml:",omitempty"`
	RehydratePriority  string `xml:",omitempty"`
	LeaseStatus        string `xml:",omitempty"`
	LeaseState         string `xml:",omitempty"`
	LeaseDuration      string `xml:",omitempty"`
	ServerEncrypted    bool
	PolicyUntil        string `xml:"ImmutabilityPolicyUntilDate,omitempty"`
	PolicyMode         string `xml:"ImmutabilityPolicyMode,omitempty"`
	LegalHold          bool   `xml:",omitempty"`
	CopyID             string `xml:"CopyId,omitempty"`
	CopySource         string `xml:",omitempty"`
	CopyStatus         string `xml:",omitempty"`
	CopyProgress       string `xml:",omitempty"`
	CopyCompletionTime string `xml:",omitempty"`
}

// listing is one List Blobs request.
type listing struct {
	prefix, delimiter string
	fromName          string // where the page begins
	fromVersion       string
	limit             int
	versions          bool
	deletedVersions   bool // blobs without a current version, as deletedwithversions asks
	uncommitted       bool
	metadata          bool
	policy, hold      bool
	copies            bool
	stale             bool
	versioned         bool
	now               time.Time
}

// listBlobs is List Blobs, flat or by delimiter.
func (s *Service) listBlobs(c *call) error {
	l, err := c.listing()
	if err != nil {
		return err
	}
	type document struct {
		XMLName    xml.Name `xml:"EnumerationResults"`
		Endpoint   string   `xml:"ServiceEndpoint,attr"`
		Container  string   `xml:"ContainerName,attr"`
		Prefix     string   `xml:",omitempty"`
		Marker     string   `xml:",omitempty"`
		MaxResults int      `xml:",omitempty"`
		Delimiter  string   `xml:",omitempty"`
		Blobs      struct{ Items []any }
		NextMarker string
	}
	d := document{
		Endpoint: s.endpoint(c), Container: c.container, Prefix: l.prefix, Marker: c.q.Get("marker"), Delimiter: l.delimiter,
	}
	if c.q.Has("maxresults") {
		d.MaxResults = l.limit
	}
	s.mu.RLock()
	cont, err := s.container(c.target)
	if err == nil {
		l.versioned = cont.VersionImmutability
		d.Blobs.Items, d.NextMarker = l.page(cont)
	}
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	writeXML(c.w, http.StatusOK, d)
	return nil
}

func (c *call) listing() (listing, error) {
	l := listing{
		prefix: c.q.Get("prefix"), delimiter: c.q.Get("delimiter"), now: c.now,
		stale: fault.From(c.r.Context()).Kind == fault.StaleList,
	}
	var err error
	if l.limit, err = c.maxResults(); err != nil {
		return l, err
	}
	for include := range strings.SplitSeq(c.q.Get("include"), ",") {
		switch strings.ToLower(strings.TrimSpace(include)) {
		case "", "snapshots", "deleted", "tags": // there are none
		case "versions":
			l.versions = true
		case "deletedwithversions":
			l.deletedVersions = true
		case "uncommittedblobs":
			l.uncommitted = true
		case "metadata":
			l.metadata = true
		case "immutabilitypolicy":
			l.policy = true
		case "legalhold":
			l.hold = true
		case "copy":
			l.copies = true
		default:
			return l, refusal.InvalidQuery("include")
		}
	}
	if l.versions && l.delimiter != "" {
		return l, refuse(http.StatusBadRequest, "InvalidInput", "Versions cannot be listed with a delimiter here.")
	}
	l.fromName = c.q.Get("startFrom")
	if marker := c.q.Get("marker"); marker != "" {
		if l.fromName, l.fromVersion, err = parseMarker(marker); err != nil {
			return l, err
		}
	}
	return l, nil
}

func (c *call) maxResults() (int, error) {
	text := c.q.Get("maxresults")
	if text == "" {
		return listResultsMax, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, refuse(http.StatusBadRequest, "OutOfRangeQueryParameterValue", "maxresults must be at least 1.")
	}
	return min(n, listResultsMax), nil
}

// page returns up to limit items, and the marker of the item after them.
func (l listing) page(cont *container) (items []any, next string) {
	type prefixItem struct {
		XMLName xml.Name `xml:"BlobPrefix"`
		Name    string
	}
	folder := "" // the last prefix that was listed
	for item := range l.items(cont) {
		name := item.Name
		inFolder := ""
		if l.delimiter != "" {
			if i := strings.Index(name[len(l.prefix):], l.delimiter); i >= 0 {
				inFolder = name[:len(l.prefix)+i+len(l.delimiter)]
			}
		}
		if inFolder != "" && inFolder == folder {
			continue
		}
		if len(items) == l.limit {
			return items, formatMarker(name, item.VersionId)
		}
		if folder = inFolder; inFolder != "" {
			items = append(items, prefixItem{Name: inFolder})
			continue
		}
		items = append(items, item)
	}
	return items, ""
}

// items yields blobs in byte order of names, and the versions of each from old to new.
func (l listing) items(cont *container) iter.Seq[blobItem] {
	return func(yield func(blobItem) bool) {
		cont.blobs.Ascend(max(l.prefix, l.fromName), func(name string, b *blobRecord) bool {
			if !strings.HasPrefix(name, l.prefix) {
				return name < l.prefix
			}
			for item := range l.itemsOf(name, b) {
				if name == l.fromName && item.VersionId < l.fromVersion {
					continue
				}
				if !yield(item) {
					return false
				}
			}
			return true
		})
	}
}

func (l listing) itemsOf(name string, b *blobRecord) iter.Seq[blobItem] {
	return func(yield func(blobItem) bool) {
		current := b.current()
		for _, v := range b.Versions {
			shown := v == current || l.versions || l.deletedVersions && current == nil && v == b.Versions[len(b.Versions)-1]
			if l.stale && l.now.Sub(stampTime(v.Stamp)) < staleWindow {
				shown = false
			}
			if shown && !yield(l.item(name, b, v)) {
				return
			}
		}
		if l.uncommitted && current == nil && len(b.Blocks) > 0 {
			yield(blobItem{Name: name, Properties: blobListing{BlobType: "BlockBlob", ServerEncrypted: true}})
		}
	}
}

func (l listing) item(name string, b *blobRecord, v *version) blobItem {
	t, copied, isCurrent := v.Tier.at(l.now), v.Copy.at(l.now), v == b.current()
	item := blobItem{Name: name, Properties: blobListing{
		CreationTime: httpTime(stampTime(v.Created)), LastModified: httpTime(v.modified()), Etag: v.etag(), ContentLength: v.Size,
		ContentType: v.Headers["Content-Type"], ContentEncoding: v.Headers["Content-Encoding"], ContentLanguage: v.Headers["Content-Language"],
		ContentDisposition: v.Headers["Content-Disposition"], CacheControl: v.Headers["Cache-Control"],
		ContentMD5: base64.StdEncoding.EncodeToString(v.MD5), BlobType: "BlockBlob", ServerEncrypted: true,
		AccessTier: t.Name, AccessTierInferred: t.Inferred, ArchiveStatus: t.archiveStatus(), RehydratePriority: t.Priority,
	}}
	p := &item.Properties
	if !t.Inferred {
		p.AccessTierChange = httpTime(t.Changed)
	}
	if l.versioned && (l.versions || l.deletedVersions) {
		item.VersionId, item.IsCurrentVersion, item.HasVersionsOnly = v.id(), isCurrent, b.current() == nil && l.deletedVersions && !l.versions
	}
	if isCurrent {
		shown := http.Header{}
		b.Lease.Show(shown, l.now)
		p.LeaseStatus, p.LeaseState, p.LeaseDuration = shown.Get("x-ms-lease-status"), shown.Get("x-ms-lease-state"), shown.Get("x-ms-lease-duration")
	}
	if l.metadata {
		item.Metadata = &metadataXML{v.Metadata}
	}
	if l.policy && !v.Policy.Until.IsZero() {
		p.PolicyUntil, p.PolicyMode = httpTime(v.Policy.Until), strings.ToLower(v.Policy.mode())
	}
	p.LegalHold = l.hold && v.Hold
	if l.copies && copied.ID != "" {
		p.CopyID, p.CopySource, p.CopyStatus, p.CopyProgress = copied.ID, copied.Source, copied.Status, copied.progress()
		if copied.Status == "success" {
			p.CopyCompletionTime = httpTime(copied.Done)
		}
	}
	return item
}

// A marker names the item that the next page begins with, so that it holds whatever is made or deleted meanwhile.
func formatMarker(name, version string) string {
	return base64.RawURLEncoding.EncodeToString([]byte(name + "\x00" + version))
}

func parseMarker(marker string) (name, version string, err error) {
	raw, err := base64.RawURLEncoding.DecodeString(marker)
	name, version, found := strings.Cut(string(raw), "\x00")
	if err != nil || !found {
		return "", "", refusal.InvalidQuery("marker")
	}
	return name, version, nil
}

// metadataXML writes metadata as elements.
type metadataXML struct{ values map[string]string }

// MarshalXML implements xml.Marshaler.
func (m *metadataXML) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if err := e.EncodeToken(start); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(m.values)) {
		if err := e.EncodeElement(m.values[name], xml.StartElement{Name: xml.Name{Local: name}}); err != nil {
			return err
		}
	}
	return e.EncodeToken(start.End())
}
