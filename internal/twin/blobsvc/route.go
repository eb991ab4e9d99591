package blobsvc

import (
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

// blobNameRunesMax is the platform's longest blob name.
const blobNameRunesMax = 1024

// target is what a request is about; container and blob may be empty.
type target struct{ account, container, blob string }

// call is one request on its way through an operation.
type call struct {
	target
	byHost bool // the account is named by the host, not by the path
	w      http.ResponseWriter
	r      *http.Request
	q      url.Values
	now    time.Time
	grant  grant
}

// operation is a row of the table of what the service can do.
type operation struct {
	level   string // service, container or blob
	method  string
	restype string
	comp    string
	// needs are the SAS permissions of which one is enough; "" means that no SAS of a service (container or blob) will do.
	needs  string
	handle func(*Service, *call) error
}

// operations returns the table. A GET row answers HEAD too unless HEAD has a row.
func operations() []operation {
	return []operation{
		{"service", "GET", "", "list", "", (*Service).listContainers},
		{"service", "POST", "service", "userdelegationkey", "", (*Service).userDelegationKey},

		{"container", "PUT", "container", "", "", (*Service).createContainer},
		{"container", "DELETE", "container", "", "", (*Service).deleteContainer},
		{"container", "GET", "container", "", "", (*Service).containerProperties},
		{"container", "GET", "container", "metadata", "", (*Service).containerProperties},
		{"container", "PUT", "container", "metadata", "", (*Service).setContainerMetadata},
		{"container", "PUT", "container", "lease", "", (*Service).leaseContainer},
		{"container", "GET", "container", "list", "l", (*Service).listBlobs},

		{"blob", "PUT", "", "", "wc", (*Service).putBlob},
		{"blob", "PUT", "", "block", "wc", (*Service).putBlock},
		{"blob", "PUT", "", "blocklist", "wc", (*Service).putBlockList},
		{"blob", "GET", "", "blocklist", "r", (*Service).getBlockList},
		{"blob", "GET", "", "", "r", (*Service).getBlob},
		{"blob", "HEAD", "", "", "r", (*Service).blobProperties},
		{"blob", "DELETE", "", "", "dx", (*Service).deleteBlob},
		{"blob", "GET", "", "metadata", "r", (*Service).blobProperties},
		{"blob", "PUT", "", "metadata", "w", (*Service).setMetadata},
		{"blob", "PUT", "", "properties", "w", (*Service).setHeaders},
		{"blob", "PUT", "", "tier", "w", (*Service).setTier},
		{"blob", "PUT", "", "lease", "w", (*Service).leaseBlob},
		{"blob", "PUT", "", "immutabilitypolicies", "i", (*Service).setPolicy},
		{"blob", "DELETE", "", "immutabilitypolicies", "i", (*Service).deletePolicy},
		{"blob", "PUT", "", "legalhold", "i", (*Service).setLegalHold},
	}
}

// What the service cannot honour is refused by name rather than ignored: ignoring it would be a silent success.
func unsupportedHeaders() []string {
	return []string{
		"x-ms-structured-body", "x-ms-encryption-key", "x-ms-encryption-key-sha256", "x-ms-encryption-scope", "x-ms-tags", "x-ms-if-tags",
		"x-ms-copy-source-authorization", "x-ms-source-if-tags", "x-ms-blob-public-access", "x-ms-seal-blob", "x-ms-expiry-option",
		"x-ms-source-encryption-key", "x-ms-default-encryption-scope",
	}
}

func unsupportedParameters() []string {
	return []string{"snapshot", "deletetype", "endBefore", "where", "prevsnapshot"}
}

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	c := &call{w: w, r: r, q: r.URL.Query(), now: s.cfg.Clock.Now()}
	header := w.Header()
	header.Set("Server", "Holdfast-Twin-Blob/1.0")
	header.Set("Date", httpTime(c.now))
	header.Set("x-ms-request-id", uuid.NewString())
	if id := r.Header.Get("x-ms-client-request-id"); id != "" {
		header.Set("x-ms-client-request-id", id)
	}
	if err := s.handle(c); err != nil {
		writeError(w, r, err)
	}
}

func (s *Service) handle(c *call) error {
	if err := s.checkVersion(c); err != nil {
		return err
	}
	if err := s.parseTarget(c); err != nil {
		return err
	}
	op, err := c.operation()
	if err != nil {
		return err
	}
	if err := s.authorize(c, op); err != nil {
		return err
	}
	for _, name := range unsupportedHeaders() {
		if c.r.Header.Get(name) != "" {
			return unsupportedHeader(name)
		}
	}
	for _, name := range unsupportedParameters() {
		if c.q.Has(name) {
			return refuse(http.StatusBadRequest, "UnsupportedQueryParameter", "The twin's blob service does not carry out query parameter "+name+".")
		}
	}
	return op.handle(s, c)
}

// knownVersions are the service versions that exist, by the list that Azurite 3.37.0 keeps.
func knownVersions() []string {
	return []string{
		"2009-09-19", "2011-08-18", "2012-02-12", "2013-08-15", "2014-02-14", "2015-02-21", "2015-04-05", "2015-07-08", "2015-12-11",
		"2016-05-31", "2017-04-17", "2017-07-29", "2017-11-09", "2018-03-28", "2018-11-09", "2019-02-02", "2019-07-07", "2019-10-10",
		"2019-12-12", "2020-02-10", "2020-04-08", "2020-06-12", "2020-08-04", "2020-10-02", "2020-12-06", "2021-02-12", "2021-04-10",
		"2021-06-08", "2021-08-06", "2021-10-04", "2021-12-02", "2022-11-02", "2023-01-03", "2023-05-03", "2023-08-03", "2023-11-03",
		"2024-02-04", "2024-05-04", "2024-08-04", "2024-11-04", "2025-01-05", "2025-05-05", "2025-07-05", "2025-11-05", "2026-02-06",
		"2026-04-06", "2026-06-06",
	}
}

// checkVersion refuses service versions that do not exist, as the platform does. Without the header a SAS brings its own.
func (s *Service) checkVersion(c *call) error {
	version := c.r.Header.Get("x-ms-version")
	if version == "" {
		version = c.q.Get("sv")
	}
	if version == "" {
		return refusal.MissingHeader("x-ms-version")
	}
	if !s.knownVersion(version) {
		return refusal.InvalidHeader("x-ms-version")
	}
	c.w.Header().Set("x-ms-version", version)
	return nil
}

func (s *Service) knownVersion(version string) bool {
	return version == s.cfg.NewestVersion || version < s.cfg.NewestVersion && slices.Contains(knownVersions(), version)
}

// OwnsHost reports whether the host of a request names an account, as the platform's hosts do: the first of several labels.
// The path then begins with the container.
func (s *Service) OwnsHost(host string) bool { return s.accountOfHost(host) != "" }

func (s *Service) accountOfHost(host string) string {
	label, rest, _ := strings.Cut(host, ".")
	if rest == "" {
		return ""
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.accounts[label] == nil || net.ParseIP(strings.Trim(hostname(host), "[]")) != nil {
		return ""
	}
	return label
}

// hostname drops the port.
func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		return name
	}
	return host
}

// parseTarget finds out what the request is about.
func (s *Service) parseTarget(c *call) error {
	rest, found := strings.CutPrefix(c.r.URL.Path, "/")
	c.account = s.accountOfHost(c.r.Host)
	c.byHost = c.account != ""
	switch {
	case !found && !c.byHost:
		return refuse(http.StatusBadRequest, "InvalidUri", "The path names no account.")
	case !c.byHost:
		c.account, rest, _ = strings.Cut(rest, "/")
	}
	c.container, c.blob, _ = strings.Cut(rest, "/")
	if c.container == "" && c.blob != "" || utf8.RuneCountInString(c.blob) > blobNameRunesMax || !validBlobName(c.blob) {
		return refuse(http.StatusBadRequest, "InvalidResourceName", "The blob's name is not usable.")
	}
	return nil
}

// validBlobName refuses what XML cannot carry in a list.
func validBlobName(name string) bool {
	if !utf8.ValidString(name) {
		return false
	}
	for _, c := range name {
		if unicode.IsControl(c) || c == '\uFFFE' || c == '\uFFFF' {
			return false
		}
	}
	return true
}

func (c *call) operation() (operation, error) {
	level, restype := "blob", strings.ToLower(c.q.Get("restype"))
	switch {
	case c.container == "":
		level = "service"
	case c.blob == "":
		level = "container"
	}
	find := func(method string) (operation, bool) {
		for _, op := range operations() {
			if op.level == level && op.method == method && op.restype == restype && op.comp == strings.ToLower(c.q.Get("comp")) {
				return op, true
			}
		}
		return operation{}, false
	}
	op, ok := find(c.r.Method)
	if !ok && c.r.Method == http.MethodHead {
		op, ok = find(http.MethodGet)
	}
	if !ok {
		return operation{}, errNotImplemented
	}
	return op, nil
}
