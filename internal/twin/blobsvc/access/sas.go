// Package access verifies what a request to the twin's blob service proves about itself without a token: the account's key
// and every sort of SAS. It recomputes signatures and knows times, scopes and permissions; it knows no state.
package access

import (
	"encoding/base64"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

// Levels of the things that a request can be about.
const (
	Service   = "service"
	Container = "container"
	Blob      = "blob"
)

// The refusals.
var (
	ErrAuthentication = refusal.New(http.StatusForbidden, "AuthenticationFailed", "The signature or token does not fit the request.")
	ErrPermission     = refusal.New(http.StatusForbidden, "AuthorizationPermissionMismatch", "The SAS does not permit this operation.")
	ErrKeysOff        = refusal.New(http.StatusForbidden, "KeyBasedAuthenticationNotPermitted", "The account does not accept its key, nor a SAS made with it.")
)

// Account is what a storage account's secrets are.
type Account struct {
	Key              string `json:"key"`              // base64
	DelegationSecret string `json:"delegationSecret"` // base64; user delegation keys are derived from it
	SharedKey        bool   `json:"sharedKey"`        // the key may be used
}

// DelegationKey derives a user delegation key, in base64, from everything that a SAS says about it, so that none needs to
// be kept: object id, tenant id, start, expiry, service, version, delegated tenant id.
func (a Account) DelegationKey(fields ...string) string {
	return base64.StdEncoding.EncodeToString(sign(a.DelegationSecret, strings.Join(fields, "\n")))
}

// Request is what a SAS is checked against: a request, or the source of a copy.
type Request struct {
	AccountName, Container, Blob string
	Level                        string
	Needs                        string // permissions of which one is enough; "" is beyond a SAS of a container or blob
	Account                      Account
	Query                        url.Values
	HTTP                         *http.Request
	Now                          time.Time
}

// CheckSAS verifies signature, times, protocol, address and permissions, in that order. The version of the SAS must have
// been found to exist.
func CheckSAS(r Request) error {
	version := r.q("sv")
	var err error
	switch {
	case r.Query.Has("ss") || r.Query.Has("srt"):
		err = r.checkAccountSAS(version)
	case r.Query.Has("si"):
		err = refusal.New(http.StatusForbidden, "AuthenticationFailed", "The container has no stored access policy of that name.")
	default:
		err = r.checkServiceSAS(version)
	}
	if err != nil {
		return err
	}
	if err := r.checkTimes(); err != nil {
		return err
	}
	if r.q("spr") == "https" && r.HTTP.TLS == nil {
		return refusal.New(http.StatusForbidden, "AuthorizationProtocolMismatch", "The SAS is for HTTPS alone.")
	}
	if !addressFits(r.q("sip"), r.HTTP.RemoteAddr) {
		return refusal.New(http.StatusForbidden, "AuthorizationSourceIPMismatch", "The SAS is for other addresses.")
	}
	return r.checkPermissions()
}

func (r Request) q(name string) string { return r.Query.Get(name) }

func (r Request) checkAccountSAS(version string) error {
	if !r.Account.SharedKey {
		return ErrKeysOff
	}
	fields := []string{r.AccountName, r.q("sp"), r.q("ss"), r.q("srt"), r.q("st"), r.q("se"), r.q("sip"), r.q("spr"), version}
	if version >= "2020-12-06" {
		fields = append(fields, r.q("ses"))
	}
	if !signatureFits(r.Account.Key, strings.Join(append(fields, ""), "\n"), r.q("sig")) {
		return ErrAuthentication
	}
	if !strings.Contains(r.q("ss"), "b") {
		return refusal.New(http.StatusForbidden, "AuthorizationServiceMismatch", "The SAS is not for the Blob service.")
	}
	if letter := map[string]string{Service: "s", Container: "c", Blob: "o"}[r.Level]; !strings.Contains(r.q("srt"), letter) {
		return refusal.New(http.StatusForbidden, "AuthorizationResourceTypeMismatch", "The SAS is not for resources of this type.")
	}
	return nil
}

// checkServiceSAS verifies a SAS of a container, folder or blob, made with the account's key or a user delegation key.
func (r Request) checkServiceSAS(version string) error {
	if r.Query.Has("skoid") {
		return r.checkDelegationSAS(version)
	}
	if !r.Account.SharedKey {
		return ErrKeysOff
	}
	name, err := r.canonicalName(r.AccountName)
	if err != nil {
		return err
	}
	if !signatureFits(r.Account.Key, r.serviceText(version, name), r.q("sig")) {
		return ErrAuthentication
	}
	return nil
}

// checkDelegationSAS accepts two account names in the signed text: the true one, and the first label of the host, which
// azblob v1.8.0 for Go takes for it (service.Client.GetUserDelegationCredential) and which is wrong for every path-style
// address. The key belongs to the account either way.
func (r Request) checkDelegationSAS(version string) error {
	if err := r.checkDelegationTimes(); err != nil {
		return err
	}
	key := r.Account.DelegationKey(r.q("skoid"), r.q("sktid"), r.q("skt"), r.q("ske"), r.q("sks"), r.q("skv"), r.q("skdutid"))
	label, _, _ := strings.Cut(r.HTTP.Host, ".")
	for _, account := range []string{r.AccountName, label} {
		name, err := r.canonicalName(account)
		if err != nil {
			return err
		}
		if signatureFits(key, r.delegationText(version, name), r.q("sig")) {
			return nil
		}
	}
	return ErrAuthentication
}

// canonicalName is the resource that the SAS was made for, as far as the request can tell: when the SAS was made for
// another one, the signature will not fit.
func (r Request) canonicalName(account string) (string, error) {
	name := "/blob/" + account + "/" + r.Container
	switch scope := r.q("sr"); {
	case scope == "c" && r.Level != Service:
		return name, nil
	case (scope == "b" || scope == "bv" && r.Query.Has("versionid")) && r.Level == Blob:
		return name + "/" + r.Blob, nil
	case scope == "d" && r.Level != Service:
		return r.folderName(name)
	case scope == "b" || scope == "bv":
		return "", refusal.New(http.StatusForbidden, "AuthorizationFailure", "The SAS is for one blob.")
	}
	return "", ErrAuthentication
}

// folderName cuts the blob's name, or a list's prefix, to the depth of the SAS's folder.
func (r Request) folderName(container string) (string, error) {
	depth, err := strconv.Atoi(r.q("sdd"))
	if err != nil || depth < 0 {
		return "", refusal.InvalidQuery("sdd")
	}
	path := r.Blob
	if r.Level == Container {
		path = r.q("prefix")
	}
	segments := strings.Split(path, "/")
	if len(segments) <= depth { // the folder itself, or above it
		return "", refusal.New(http.StatusForbidden, "AuthorizationFailure", "The SAS is for a folder below.")
	}
	return strings.TrimSuffix(container+"/"+strings.Join(segments[:depth], "/"), "/"), nil
}

// serviceText is the string to sign of a SAS made with the account's key (REST reference, "Create a service SAS").
func (r Request) serviceText(version, name string) string {
	fields := []string{r.q("sp"), r.q("st"), r.q("se"), name, r.q("si"), r.q("sip"), r.q("spr"), version}
	if version >= "2018-11-09" {
		fields = append(fields, r.q("sr"), r.signedTimestamp())
	}
	if version >= "2020-12-06" {
		fields = append(fields, r.q("ses"))
	}
	return strings.Join(append(fields, r.responseHeaders()...), "\n")
}

// delegationText is the string to sign of a SAS made with a user delegation key (REST reference, "Create a user
// delegation SAS"; the order of the fields is that of azblob v1.8.0 and storage-blob 12.34 for JavaScript).
func (r Request) delegationText(version, name string) string {
	fields := []string{r.q("sp"), r.q("st"), r.q("se"), name, r.q("skoid"), r.q("sktid"), r.q("skt"), r.q("ske"), r.q("sks"), r.q("skv")}
	if version >= "2020-02-10" {
		fields = append(fields, r.q("saoid"), r.q("suoid"), r.q("scid"))
	}
	if version >= "2025-07-05" {
		fields = append(fields, r.q("skdutid"), r.q("sduoid"))
	}
	fields = append(fields, r.q("sip"), r.q("spr"), version, r.q("sr"), r.signedTimestamp())
	if version >= "2020-12-06" {
		fields = append(fields, r.q("ses"))
	}
	if version >= "2026-04-06" {
		fields = append(fields, r.signedHeaders(), r.signedParameters())
	}
	return strings.Join(append(fields, r.responseHeaders()...), "\n")
}

func (r Request) signedTimestamp() string {
	if r.q("sr") == "bv" {
		return r.q("versionid")
	}
	return ""
}

func (r Request) responseHeaders() []string {
	return []string{r.q("rscc"), r.q("rscd"), r.q("rsce"), r.q("rscl"), r.q("rsct")}
}

func (r Request) signedHeaders() string {
	var b strings.Builder
	if names := r.q("srh"); names != "" {
		for name := range strings.SplitSeq(names, ",") {
			b.WriteString(name + ":" + r.HTTP.Header.Get(name) + "\n")
		}
	}
	return b.String()
}

func (r Request) signedParameters() string {
	var b strings.Builder
	if names := r.q("srq"); names != "" {
		for name := range strings.SplitSeq(names, ",") {
			b.WriteString("\n" + name + ":" + r.q(name))
		}
	}
	return b.String()
}

func (r Request) checkTimes() error {
	if start := r.q("st"); start != "" {
		t, err := ParseTime(start)
		if err != nil {
			return ErrAuthentication
		}
		if t.After(r.Now) {
			return refusal.New(http.StatusForbidden, "AuthenticationFailed", "The SAS is not valid yet.")
		}
	}
	end, err := ParseTime(r.q("se"))
	if err != nil {
		return ErrAuthentication
	}
	if !r.Now.Before(end) {
		return refusal.New(http.StatusForbidden, "AuthenticationFailed", "The SAS has expired.")
	}
	return nil
}

func (r Request) checkDelegationTimes() error {
	start, startErr := ParseTime(r.q("skt"))
	end, endErr := ParseTime(r.q("ske"))
	if startErr != nil || endErr != nil || start.After(r.Now) || !r.Now.Before(end) {
		return refusal.New(http.StatusForbidden, "AuthenticationFailed", "The user delegation key is not valid now.")
	}
	return nil
}

// checkPermissions: an operation without permission letters is beyond a service SAS; an account SAS is judged by the
// letter that the method stands for.
func (r Request) checkPermissions() error {
	needs := r.Needs
	if needs == "" {
		if !r.Query.Has("srt") {
			return refusal.New(http.StatusForbidden, "AuthorizationFailure", "This operation needs an account SAS, a token or the key.")
		}
		needs = map[string]string{http.MethodGet: "rl", http.MethodHead: "rl", http.MethodPut: "wc", http.MethodDelete: "d"}[r.HTTP.Method]
	}
	if needs == "" || !strings.ContainsAny(r.q("sp"), needs) {
		return ErrPermission
	}
	return nil
}

// ParseTime reads the ISO 8601 forms that a SAS may use.
func ParseTime(text string) (t time.Time, err error) {
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
