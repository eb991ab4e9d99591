package export

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
	"github.com/holdfast-backup/holdfast/internal/vhd"
)

// The platform's limits (reference/azure.md §1.2, §2.1).
const (
	// FamilyGrantsMax is how many snapshots of one family can have an active SAS at a time.
	FamilyGrantsMax = 5
	// DurationMax is the longest life of a SAS.
	DurationMax = 5_184_000 * time.Second
	// DefaultMaxVersion is the newest x-ms-version that disk endpoints are taken to accept.
	DefaultMaxVersion = "2023-11-03"
	// AuthModeEntra is the dataAccessAuthMode that wants a bearer token besides the SAS.
	AuthModeEntra = "AzureActiveDirectory"
)

// ErrTooManyGrants refuses a SAS for a sixth snapshot of a family.
var ErrTooManyGrants = holdfast.Errorf(holdfast.KindConflict, "%d snapshots of the family have an active SAS already", FamilyGrantsMax)

// Access is what a grant allows, spelt as in beginGetAccess.
type Access string

// The accesses. Write allows reading too.
const (
	Read  Access = "Read"
	Write Access = "Write"
)

// Config is what a Service needs.
type Config struct {
	Dir     string // for the grants; made when missing
	Volumes *vdisk.Store
	Clock   clock.Clock
	BaseURL func() string // where Handler is reached, such as http://127.0.0.1:9000; asked at each grant

	// Authorize checks the bearer token of a request for a disk in AuthModeEntra: KindRefused means that the token is good
	// but lacks the permission. Without it every token is refused.
	Authorize func(r *http.Request) error
	// AuthorizationURI is told to clients that come without a token; without it the public cloud's is.
	AuthorizationURI func() string

	MaxVersion    string // the newest x-ms-version accepted; "" means DefaultMaxVersion
	FragmentLimit int    // a page list request that touches more ranges times out; 0 means no limit
	Pacing        Pacing
}

// Pacing is what each blob can bear; what goes beyond is answered with 503 ServerBusy. Zero means unlimited.
type Pacing struct {
	RequestsPerSecond float64
	BytesPerSecond    float64 // of page content, read or written
}

// Grant is a SAS.
type Grant struct {
	ID       string    `json:"id"`
	Resource string    `json:"resource"` // the ARM id's key: lower-case
	Volume   vdisk.ID  `json:"volume"`
	Family   string    `json:"family,omitempty"`
	Access   Access    `json:"access"`
	Expires  time.Time `json:"expires"`
	Upload   bool      `json:"upload,omitempty"`
	AuthMode string    `json:"authMode,omitempty"`
}

// GrantOptions asks for a grant.
type GrantOptions struct {
	Resource string // ARM id, in any case
	Volume   vdisk.ID
	Family   string // the snapshot's family, which the limit of five counts by; "" is not limited
	Access   Access
	Duration time.Duration // up to DurationMax
	Upload   bool          // the disk waits for a whole fixed VHD, footer included; with Write only
	AuthMode string        // AuthModeEntra or ""
}

// Service keeps the grants and serves the blobs. It is safe for concurrent use.
type Service struct {
	config  Config
	started time.Time
	pacer   *pacer
	buffers sync.Pool // of *[]byte with pageWriteBytesMax bytes

	writing sync.RWMutex
	mu      sync.Mutex
	books   books // guarded by mu
}

// Open reads the grants in config.Dir.
func Open(config Config) (*Service, error) {
	if config.Dir == "" || config.Volumes == nil || config.Clock == nil || config.BaseURL == nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the disk endpoint needs a directory, volumes, a clock and its own URL")
	}
	config.MaxVersion = cmp.Or(config.MaxVersion, DefaultMaxVersion)
	if !versionPattern(config.MaxVersion) {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%q is no service version such as %s", config.MaxVersion, DefaultMaxVersion)
	}
	books, err := openBooks(config.Dir)
	if err != nil {
		return nil, err
	}
	s := &Service{config: config, started: config.Clock.Now(), pacer: newPacer(config.Pacing, config.Clock), books: books}
	s.buffers.New = func() any {
		buffer := make([]byte, pageWriteBytesMax)
		return &buffer
	}
	return s, nil
}

// Grant gives access to a volume for a time. A resource that has an active grant of the same access to the same volume
// gets the same URL, whose life is extended and never shortened. A sixth resource of a family fails with ErrTooManyGrants.
func (s *Service) Grant(options GrantOptions) (sasURL string, g Grant, err error) {
	g, err = s.intended(options)
	if err != nil {
		return "", Grant{}, err
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.config.Clock.Now()
	s.books.dropExpired(now)
	if held, ok := s.books.same(g); ok {
		if g.Expires.Before(held.Expires) {
			g.Expires = held.Expires
		}
		g.ID = held.ID
	} else if g.Family != "" && s.books.othersOfFamily(g) >= FamilyGrantsMax {
		return "", Grant{}, fmt.Errorf("%s: %w", g.Resource, ErrTooManyGrants)
	}
	if g.ID == "" {
		id, err := uuid.NewRandom()
		if err != nil {
			return "", Grant{}, holdfast.Wrap(holdfast.KindInternal, err, "cannot name a grant")
		}
		g.ID = id.String()
	}
	record, err := s.books.recordOf(g, now, s.config.Volumes)
	if err != nil {
		return "", Grant{}, err
	}
	s.books.Grants[g.ID] = g
	if err := s.books.save(); err != nil {
		return "", Grant{}, err
	}
	return s.config.BaseURL() + record.Path + "?" + s.books.sign(record.Path, g.ID), g, nil
}

// intended checks the options and returns the grant that they ask for, without its ID.
func (s *Service) intended(o GrantOptions) (Grant, error) {
	volume, err := s.config.Volumes.Stat(o.Volume)
	switch {
	case err != nil:
		return Grant{}, err
	case o.Resource == "":
		return Grant{}, holdfast.Errorf(holdfast.KindInvalid, "a grant names its resource").WithField("resource")
	case o.Access != Read && o.Access != Write:
		return Grant{}, holdfast.Errorf(holdfast.KindInvalid, "the access %q is neither Read nor Write", o.Access).WithField("access")
	case o.Duration <= 0 || o.Duration > DurationMax:
		return Grant{}, holdfast.Errorf(holdfast.KindInvalid, "a SAS lives from 1 to %d seconds", int64(DurationMax/time.Second)).
			WithField("durationInSeconds")
	case o.Access == Write && volume.Frozen:
		return Grant{}, holdfast.Errorf(holdfast.KindInvalid, "a snapshot cannot be written").WithField("access")
	case o.Upload && o.Access != Write:
		return Grant{}, holdfast.Errorf(holdfast.KindInvalid, "an upload needs the access Write").WithField("access")
	case o.AuthMode != "" && o.AuthMode != AuthModeEntra:
		return Grant{}, holdfast.Errorf(holdfast.KindInvalid, "the auth mode %q is not known", o.AuthMode).WithField("dataAccessAuthMode")
	}
	return Grant{
		Resource: resourceKey(o.Resource), Volume: o.Volume, Family: o.Family, Access: o.Access,
		Expires: s.config.Clock.Now().Add(o.Duration).Round(0), Upload: o.Upload, AuthMode: o.AuthMode,
	}, nil
}

func resourceKey(resource string) string { return holdfast.ResourceID(resource).Key() }

// Revoke ends all grants of the resource and returns how many were active. Once it has returned nothing is written through
// them any more; reads that are being answered may go on to their end.
func (s *Service) Revoke(resource string) (n int, err error) {
	key := resourceKey(resource)
	return s.revoke(func(g Grant) bool { return g.Resource == key })
}

func (s *Service) revoke(chosen func(Grant) bool) (n int, err error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()

	now, found := s.config.Clock.Now(), false
	for id, g := range s.books.Grants {
		if !chosen(g) {
			continue
		}
		if g.activeAt(now) {
			n++
		}
		found = true
		delete(s.books.Grants, id)
	}
	if !found {
		return 0, nil
	}
	return n, s.books.save()
}

// Active returns the grants of the resource that are neither revoked nor expired, by ID.
func (s *Service) Active(resource string) []Grant {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, now := resourceKey(resource), s.config.Clock.Now()
	var active []Grant
	for _, g := range s.books.Grants {
		if g.Resource == key && g.activeAt(now) {
			active = append(active, g)
		}
	}
	slices.SortFunc(active, func(a, b Grant) int { return strings.Compare(a.ID, b.ID) })
	return active
}

// ActiveCount returns how many grants Active would return.
func (s *Service) ActiveCount(resource string) int { return len(s.Active(resource)) }

// UploadFooter returns the last 512 bytes of the blob as uploads to the volume wrote them; ok is false when none did, or
// they were cleared.
func (s *Service) UploadFooter(volume vdisk.ID) (footer []byte, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	record, known := s.books.Blobs[volume]
	if !known || record.Uploaded == nil {
		return nil, false
	}
	return slices.Clone(record.Uploaded), true
}

func (g Grant) activeAt(now time.Time) bool { return now.Before(g.Expires) }

// abcd is the blob behind a grant, as it is at one moment.
type abcd struct {
	grant    Grant
	volume   vdisk.Volume
	footer   []byte // nil when an upload has not written it: it reads as zeros
	modified time.Time
	etag     string
}

// length returns the blob's length in bytes.
func (b abcd) length() int64 { return b.volume.Size + vhd.FooterBytes }

// blob looks up what is behind the grant.
func (s *Service) blob(g Grant) (abcd, error) {
	volume, err := s.config.Volumes.Stat(g.Volume)
	if err != nil {
		return abcd{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	record := s.books.Blobs[g.Volume]
	b := abcd{grant: g, volume: volume, modified: record.FirstSeen}
	if !volume.Frozen {
		b.modified = s.started
		if !record.written.IsZero() {
			b.modified = record.written
		}
	}
	if g.Upload || record.Uploaded != nil && g.Access == Write {
		b.footer = record.Uploaded
	} else {
		footer := vhd.Footer(volume.Size, [16]byte(digest(record.Family)[:16]), s.books.Families[record.Family])
		b.footer = footer[:]
	}
	b.etag = fmt.Sprintf(`"0x8DE%X"`, digest(fmt.Sprintf("%s %d %d", g.Volume, volume.Size, record.revision))[:6])
	return b, nil
}

func digest(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}
