package blobsvc

import (
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// sasRequest is what a SAS is checked against: a request, or the source of a copy.
type sasRequest struct {
	target
	level   string // service, container or blob
	needs   string // permissions of which one is enough
	account accountRecord
	q       url.Values
	r       *http.Request
	now     time.Time
}

func (c *call) sasRequest(op operation, account accountRecord) sasRequest {
	needs := op.needs
	switch {
	case op.method == http.MethodDelete && c.q.Has("versionid") && op.comp == "":
		needs = "x"
	case op.method == http.MethodDelete && op.comp == "":
		needs = "d"
	}
	return sasRequest{c.target, op.level, needs, account, c.q, c.r, c.now}
}

// checkSAS verifies signature, times, protocol, address, scope and permissions, in that order.
func (s *Service) checkSAS(r sasRequest) (grant, error) {
	g := grant{sas: true, permissions: r.q.Get("sp"), object: r.q.Get("skoid"), tenant: r.q.Get("sktid")}
	version := r.q.Get("sv")
	if !s.knownVersion(version) {
		return g, refuse(http.StatusBadRequest, "InvalidQueryParameterValue", "The SAS is of a service version that is not known.")
	}
	var err error
	switch {
	case r.q.Has("ss") || r.q.Has("srt"):
		err = r.checkAccountSAS(version)
	case r.q.Has("si"):
		err = refuse(http.StatusForbidden, "AuthenticationFailed", "The container has no stored access policy of that name.")
	default:
		err = r.checkServiceSAS(version)
	}
	if err != nil {
		return g, err
	}
	if err := r.checkTimes(); err != nil {
		return g, err
	}
	if r.q.Get("spr") == "https" && r.r.TLS == nil {
		return g, refuse(http.StatusForbidden, "AuthorizationProtocolMismatch", "The SAS is for HTTPS alone.")
	}
	if !addressFits(r.q.Get("sip"), r.r.RemoteAddr) {
		return g, refuse(http.StatusForbidden, "AuthorizationSourceIPMismatch", "The SAS is for other addresses.")
	}
	return g, r.checkPermissions()
}

func (r sasRequest) checkAccountSAS(version string) error {
	if !r.account.SharedKey {
		return errKeysOff
	}
	fields := []string{r.target.account, r.q.Get("sp"), r.q.Get("ss"), r.q.Get("srt"), r.q.Get("st"), r.q.Get("se"), r.q.Get("sip"), r.q.Get("spr"), version}
	if version >= "2020-12-06" {
		fields = append(fields, r.q.Get("ses"))
	}
	if !signatureFits(r.account.Key, strings.Join(append(fields, ""), "\n"), r.q.Get("sig")) {
		return errAuthentication
	}
	if !strings.Contains(r.q.Get("ss"), "b") {
		return refuse(http.StatusForbidden, "AuthorizationServiceMismatch", "The SAS is not for the Blob service.")
	}
	if letter := map[string]string{"service": "s", "container": "c", "blob": "o"}[r.level]; !strings.Contains(r.q.Get("srt"), letter) {
		return refuse(http.StatusForbidden, "AuthorizationResourceTypeMismatch", "The SAS is not for resources of this type.")
	}
	return nil
}

// checkServiceSAS verifies a SAS of a container, folder or blob, made with the account's key or a user delegation key.
func (r sasRequest) checkServiceSAS(version string) error {
	name, err := r.canonicalName()
	if err != nil {
		return err
	}
	key, text := r.account.Key, ""
	switch {
	case r.q.Has("skoid"):
		if err := r.checkDelegationTimes(); err != nil {
			return err
		}
		key = r.account.delegationKey(r.q.Get("skoid"), r.q.Get("sktid"), r.q.Get("skt"), r.q.Get("ske"), r.q.Get("sks"), r.q.Get("skv"), r.q.Get("skdutid"))
		text = r.delegationText(version, name)
	case !r.account.SharedKey:
		return errKeysOff
	default:
		text = r.serviceText(version, name)
	}
	if !signatureFits(key, text, r.q.Get("sig")) {
		return errAuthentication
	}
	return nil
}

// canonicalName is the resource that the SAS was made for, as far as the request can tell: when the SAS was made for
// another one, the signature will not fit.
func (r sasRequest) canonicalName() (string, error) {
	name := "/blob/" + r.target.account + "/" + r.container
	switch scope := r.q.Get("sr"); {
	case scope == "c" && r.level != "service":
		return name, nil
	case (scope == "b" || scope == "bv" && r.q.Has("versionid")) && r.level == "blob":
		return name + "/" + r.blob, nil
	case scope == "d" && r.level != "service":
		return r.folderName(name)
	case scope == "b" || scope == "bv":
		return "", refuse(http.StatusForbidden, "AuthorizationFailure", "The SAS is for one blob.")
	}
	return "", errAuthentication
}

// folderName cuts the blob's name, or a list's prefix, to the depth of the SAS's folder.
func (r sasRequest) folderName(container string) (string, error) {
	depth, err := strconv.Atoi(r.q.Get("sdd"))
	if err != nil || depth < 0 {
		return "", invalidQuery("sdd")
	}
	path := r.blob
	if r.level == "container" {
		path = r.q.Get("prefix")
	}
	segments := strings.Split(path, "/")
	if len(segments) <= depth { // the folder itself, or above it
		return "", refuse(http.StatusForbidden, "AuthorizationFailure", "The SAS is for a folder below.")
	}
	return strings.TrimSuffix(container+"/"+strings.Join(segments[:depth], "/"), "/"), nil
}

// serviceText is the string to sign of a SAS made with the account's key (REST reference, "Create a service SAS").
func (r sasRequest) serviceText(version, name string) string {
	fields := []string{r.q.Get("sp"), r.q.Get("st"), r.q.Get("se"), name, r.q.Get("si"), r.q.Get("sip"), r.q.Get("spr"), version}
	if version >= "2018-11-09" {
		fields = append(fields, r.q.Get("sr"), r.signedTimestamp())
	}
	if version >= "2020-12-06" {
		fields = append(fields, r.q.Get("ses"))
	}
	return strings.Join(append(fields, r.responseHeaders()...), "\n")
}

// delegationText is the string to sign of a SAS made with a user delegation key (REST reference, "Create a user
// delegation SAS"; the order of the fields is that of azblob v1.8.0 and storage-blob 12.34 for JavaScript).
func (r sasRequest) delegationText(version, name string) string {
	fields := []string{r.q.Get("sp"), r.q.Get("st"), r.q.Get("se"), name, r.q.Get("skoid"), r.q.Get("sktid"), r.q.Get("skt"), r.q.Get("ske"), r.q.Get("sks"), r.q.Get("skv")}
	if version >= "2020-02-10" {
		fields = append(fields, r.q.Get("saoid"), r.q.Get("suoid"), r.q.Get("scid"))
	}
	if version >= "2025-07-05" {
		fields = append(fields, r.q.Get("skdutid"), r.q.Get("sduoid"))
	}
	fields = append(fields, r.q.Get("sip"), r.q.Get("spr"), version, r.q.Get("sr"), r.signedTimestamp())
	if version >= "2020-12-06" {
		fields = append(fields, r.q.Get("ses"))
	}
	if version >= "2026-04-06" {
		fields = append(fields, r.signedHeaders(), r.signedParameters())
	}
	return strings.Join(append(fields, r.responseHeaders()...), "\n")
}

func (r sasRequest) signedTimestamp() string {
	if r.q.Get("sr") == "bv" {
		return r.q.Get("versionid")
	}
	return ""
}

func (r sasRequest) responseHeaders() []string {
	return []string{r.q.Get("rscc"), r.q.Get("rscd"), r.q.Get("rsce"), r.q.Get("rscl"), r.q.Get("rsct")}
}

func (r sasRequest) signedHeaders() string {
	var b strings.Builder
	if names := r.q.Get("srh"); names != "" {
		for name := range strings.SplitSeq(names, ",") {
			b.WriteString(name + ":" + r.r.Header.Get(name) + "\n")
		}
	}
	return b.String()
}

func (r sasRequest) signedParameters() string {
	var b strings.Builder
	if names := r.q.Get("srq"); names != "" {
		for name := range strings.SplitSeq(names, ",") {
			b.WriteString("\n" + name + ":" + r.q.Get(name))
		}
	}
	return b.String()
}

func (r sasRequest) checkTimes() error {
	if start := r.q.Get("st"); start != "" {
		t, err := parseSASTime(start)
		if err != nil {
			return errAuthentication
		}
		if t.After(r.now) {
			return refuse(http.StatusForbidden, "AuthenticationFailed", "The SAS is not valid yet.")
		}
	}
	end, err := parseSASTime(r.q.Get("se"))
	if err != nil {
		return errAuthentication
	}
	if !r.now.Before(end) {
		return refuse(http.StatusForbidden, "AuthenticationFailed", "The SAS has expired.")
	}
	return nil
}

func (r sasRequest) checkDelegationTimes() error {
	start, startErr := parseSASTime(r.q.Get("skt"))
	end, endErr := parseSASTime(r.q.Get("ske"))
	if startErr != nil || endErr != nil || start.After(r.now) || !r.now.Before(end) {
		return refuse(http.StatusForbidden, "AuthenticationFailed", "The user delegation key is not valid now.")
	}
	return nil
}

// checkPermissions: an operation without permission letters is beyond a service SAS; an account SAS is judged by the
// letter that the method stands for.
func (r sasRequest) checkPermissions() error {
	needs := r.needs
	if needs == "" {
		if !r.q.Has("srt") {
			return refuse(http.StatusForbidden, "AuthorizationFailure", "This operation needs an account SAS, a token or the key.")
		}
		needs = map[string]string{http.MethodGet: "rl", http.MethodHead: "rl", http.MethodPut: "wc", http.MethodDelete: "d"}[r.r.Method]
	}
	if needs == "" || !strings.ContainsAny(r.q.Get("sp"), needs) {
		return errPermission
	}
	return nil
}

// parseSASTime reads the ISO 8601 forms that a SAS may use.
func parseSASTime(text string) (t time.Time, err error) {
	for _, layout := range []string{"2006-01-02T15:04:05Z", "2006-01-02T15:04:05.9999999Z", "2006-01-02T15:04Z", "2006-01-02"} {
		if t, err = time.Parse(layout, text); err == nil {
			return t, nil
		}
	}
	return t, err
}

// addressFits reports whether a client's address is in "first-last" or equal to "only"; "" permits all.
func addressFits(permitted, remote string) bool {
	if permitted == "" {
		return true
	}
	first, last, isRange := strings.Cut(permitted, "-")
	if !isRange {
		last = first
	}
	client, err := netip.ParseAddrPort(remote)
	low, lowErr := netip.ParseAddr(first)
	high, highErr := netip.ParseAddr(last)
	if err != nil || lowErr != nil || highErr != nil {
		return false
	}
	address := client.Addr().Unmap()
	return address.Compare(low) >= 0 && address.Compare(high) <= 0
}
