package export

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/fault"
	"github.com/holdfast-backup/holdfast/internal/twin/vdisk"
)

// Service versions from which something works.
const (
	versionOldest  = "2009-09-19" // the first with ranges of page blobs
	versionDiffURL = "2019-04-19" // x-ms-previous-snapshot-url
	versionPaging  = "2020-10-02" // marker and maxresults of page lists
)

// exchange is one request that was let in.
type exchange struct {
	w       http.ResponseWriter
	r       *http.Request
	query   url.Values
	version string
	blob    abcd
}

// Handler serves the blobs. The paths start with /md-. A fault decision of kind Revoke in the request's context revokes
// the grant in use before the request is served.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		stamp(w, r)
		x, err := s.admit(w, r)
		if err == nil {
			err = s.dispatch(x)
		}
		if err != nil {
			answerRefusal(w, r, err)
		}
	})
}

// stamp sets the headers that every answer has.
func stamp(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0")
	if id, err := uuid.NewRandom(); err == nil {
		header.Set("x-ms-request-id", id.String())
	}
	if id := r.Header.Get("x-ms-client-request-id"); id != "" {
		header.Set("x-ms-client-request-id", id)
	}
	if version := r.Header.Get("x-ms-version"); versionPattern(version) {
		header.Set("x-ms-version", version)
	}
}

// admit decides whether the request may be served at all.
func (s *Service) admit(w http.ResponseWriter, r *http.Request) (*exchange, error) {
	x := &exchange{w: w, r: r}
	var err error
	if x.query, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return nil, errInvalidQuery("(all)")
	}
	x.version = cmp.Or(r.Header.Get("x-ms-version"), sasVersion)
	if !versionPattern(x.version) || x.version < versionOldest || x.version > s.config.MaxVersion {
		return nil, errInvalidHeader("x-ms-version")
	}
	grant, err := s.authenticate(x)
	if err != nil {
		return nil, err
	}
	if fault.From(r.Context()).Kind == fault.Revoke {
		if _, err := s.revoke(func(g Grant) bool { return g.ID == grant.ID }); err != nil {
			return nil, err
		}
		return nil, errAuthenticationFailed()
	}
	if err := refuseConditions(r.Header); err != nil {
		return nil, err
	}
	if !s.pacer.admit(grant.Volume) {
		return nil, errBusy()
	}
	x.blob, err = s.blob(grant)
	return x, err
}

func errBusy() error {
	return refuse(http.StatusServiceUnavailable, "ServerBusy", "The blob gets more requests than it can bear. Try again later.")
}

// authenticate checks the SAS and, where the disk wants one, the bearer token.
func (s *Service) authenticate(x *exchange) (Grant, error) {
	s.mu.Lock()
	grant, ok := s.books.signed(x.r.URL.Path, x.query, s.config.Clock.Now())
	s.mu.Unlock()
	if !ok {
		return Grant{}, errAuthenticationFailed()
	}
	if grant.AuthMode != AuthModeEntra {
		return grant, nil
	}
	if !strings.HasPrefix(x.r.Header.Get("Authorization"), "Bearer ") {
		s.challenge(x.w)
		return Grant{}, refuse(http.StatusUnauthorized, "NoAuthenticationInformation", "The disk wants a bearer token besides the signature.")
	}
	if s.config.Authorize == nil {
		return Grant{}, refuse(http.StatusForbidden, "AuthorizationFailure", "The service cannot check bearer tokens.")
	}
	err := s.config.Authorize(x.r)
	if holdfast.IsKind(err, holdfast.KindRefused) {
		return Grant{}, refuse(http.StatusForbidden, "AuthorizationPermissionMismatch", "The identity may not read or write the disk's data.")
	}
	if err != nil {
		s.challenge(x.w)
		return Grant{}, refuse(http.StatusUnauthorized, "InvalidAuthenticationInfo", "The bearer token is not accepted.")
	}
	return grant, nil
}

// challenge tells the client where to get a token and for what. The resource has its trailing slash on the platform too.
func (s *Service) challenge(w http.ResponseWriter) {
	uri := "https://login.microsoftonline.com/common/oauth2/authorize"
	if s.config.AuthorizationURI != nil {
		uri = s.config.AuthorizationURI()
	}
	w.Header().Set("WWW-Authenticate", "Bearer authorization_uri="+uri+" resource_id=https://disk.azure.com/")
}

// refuseConditions refuses the headers that make a request conditional, which the disk endpoint does not know, and those
// that would change the meaning of the body.
func refuseConditions(header http.Header) error {
	for name := range header {
		name = strings.ToLower(name)
		if strings.HasPrefix(name, "if-") || strings.HasPrefix(name, "x-ms-if-") {
			return refuse(http.StatusBadRequest, "ConditionHeadersNotSupported", "Conditional headers are not supported: "+name+".")
		}
		switch name {
		case "x-ms-structured-body", "x-ms-copy-source", "x-ms-range-get-content-crc64", "x-ms-encryption-key", "x-ms-lease-id":
			return refuse(http.StatusBadRequest, "UnsupportedHeader", "The header "+name+" is not supported.")
		}
	}
	return nil
}

// dispatch serves a request by its method and comp.
func (s *Service) dispatch(x *exchange) error {
	comp, method := x.query.Get("comp"), x.r.Method
	for _, name := range []string{"snapshot", "versionid", "prevsnapshot"} {
		if x.query.Has(name) {
			return errInvalidQuery(name)
		}
	}
	switch {
	case comp == "" && (method == http.MethodGet || method == http.MethodHead):
		return s.read(x)
	case comp == "pagelist" && method == http.MethodGet:
		return s.listPages(x)
	case comp == "page" && method == http.MethodPut:
		return s.writePages(x)
	case method != http.MethodGet && method != http.MethodHead && method != http.MethodPut && method != http.MethodDelete:
		return refuse(http.StatusMethodNotAllowed, "UnsupportedHttpVerb", "The method "+method+" is not supported.")
	}
	// No creation, no deletion, no properties, leases, snapshots or copies: the SAS does not give the right.
	return refuse(http.StatusForbidden, "AuthorizationPermissionMismatch", "The signature does not permit this operation.")
}

// describe sets the headers that tell about the blob.
func (x *exchange) describe() {
	header := x.w.Header()
	header.Set("ETag", x.blob.etag)
	header.Set("Last-Modified", x.blob.modified.UTC().Format(http.TimeFormat))
}

func (x *exchange) setLength(length int64) {
	x.w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
}

// rangeHeader returns the range that the client asked for and whether it did. An open end is -1. Storage takes x-ms-range
// before Range.
func (x *exchange) rangeHeader() (first, last int64, asked bool, err error) {
	name := "x-ms-range"
	value := x.r.Header.Get(name)
	if value == "" {
		name = "Range"
		value = x.r.Header.Get(name)
	}
	if value == "" {
		return 0, 0, false, nil
	}
	numbers, isBytes := strings.CutPrefix(value, "bytes=")
	from, to, isRange := strings.Cut(numbers, "-")
	first, fromErr := parseOffset(from)
	last = -1
	var toErr error
	if to != "" {
		last, toErr = parseOffset(to)
	}
	if !isBytes || !isRange || fromErr != nil || toErr != nil || to != "" && last < first {
		return 0, 0, false, errInvalidHeader(name)
	}
	return first, last, true, nil
}

// parseOffset reads plain digits: no sign, no blanks.
func parseOffset(digits string) (int64, error) {
	n, err := strconv.ParseUint(digits, 10, 63)
	return int64(n), err
}

// versionPattern reports whether v is a date, which is what service versions are.
func versionPattern(v string) bool {
	_, err := time.Parse(time.DateOnly, v)
	return err == nil
}

// volumeOf returns the volume whose blob has the path, for messages about a previous snapshot.
func (s *Service) volumeOf(path string) (vdisk.ID, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id, known := s.books.paths[path]
	return id, known
}
