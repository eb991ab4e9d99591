package blobsvc

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/access"
	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/refusal"
)

// grant is what a request has proven about itself.
type grant struct {
	sas         bool   // authorised by a SAS
	permissions string // of the SAS
	object      string // object id of the bearer of a token
	tenant      string
}

// may reports whether the grant holds one of the permissions; all but a SAS hold them all.
func (g grant) may(permissions string) bool {
	return !g.sas || strings.ContainsAny(g.permissions, permissions)
}

// createOnly reports whether the grant may make blobs but not overwrite them.
func (g grant) createOnly() bool { return g.sas && !strings.Contains(g.permissions, "w") }

var (
	errNoAuthentication = refuse(http.StatusUnauthorized, "NoAuthenticationInformation", "The request carries neither a token, a signature nor a SAS.")
	errHTTPSOnly        = refuse(http.StatusBadRequest, "AccountRequiresHttps", "Without TLS only a SAS is accepted.")
)

// authorize decides who sent the request and whether the operation is permitted. It fills c.grant.
func (s *Service) authorize(c *call, op operation) error {
	s.mu.RLock()
	a := s.accounts[c.account]
	s.mu.RUnlock()
	if a == nil {
		return refuse(http.StatusNotFound, "ResourceNotFound", "The storage account does not exist.")
	}
	authorization := c.r.Header.Get("Authorization")
	scheme, _, _ := strings.Cut(authorization, " ")
	switch {
	case c.q.Has("sig"):
		return s.checkSAS(c, op, a.Account)
	case authorization == "":
		c.challenge()
		return errNoAuthentication
	case c.r.TLS == nil:
		return errHTTPSOnly
	case strings.EqualFold(scheme, "Bearer"):
		return s.checkBearer(c)
	case strings.EqualFold(scheme, "SharedKey"):
		if !a.SharedKey {
			return access.ErrKeysOff
		}
		return access.CheckSharedKey(c.r, c.account, a.Key)
	}
	return refuse(http.StatusBadRequest, "InvalidAuthenticationInfo", "The authentication scheme is not known.")
}

// checkSAS verifies the SAS in the query. Deleting a version takes another permission than deleting the blob.
func (s *Service) checkSAS(c *call, op operation, account access.Account) error {
	if !s.knownVersion(c.q.Get("sv")) {
		return refusal.InvalidQuery("sv")
	}
	c.grant = grant{sas: true, permissions: c.q.Get("sp")}
	needs := op.needs
	switch {
	case op.method == http.MethodDelete && op.comp == "" && c.q.Has("versionid"):
		needs = "x"
	case op.method == http.MethodDelete && op.comp == "":
		needs = "d"
	}
	return access.CheckSAS(access.Request{
		AccountName: c.account, Container: c.container, Blob: c.blob, Level: op.level, Needs: needs,
		Account: account, Query: c.q, HTTP: c.r, Now: c.now,
	})
}

// challenge tells clients which audience a token needs.
func (c *call) challenge() {
	c.w.Header().Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize resource_id=https://storage.azure.com")
}

func (s *Service) checkBearer(c *call) error {
	if s.cfg.Verify == nil {
		return access.ErrAuthentication
	}
	if err := s.cfg.Verify(c.r, "https://storage.azure.com/", "https://storage.azure.com"); err != nil {
		c.challenge()
		return refuse(http.StatusUnauthorized, "InvalidAuthenticationInfo", "The token is not accepted: "+err.Error())
	}
	c.grant.object, c.grant.tenant = bearerIdentity(c.r)
	return nil
}

// bearerIdentity reads the ids out of a token that has been verified. A token without them belongs to nobody in
// particular, which the zero id stands for.
func bearerIdentity(r *http.Request) (object, tenant string) {
	const nobody = "00000000-0000-0000-0000-000000000000"
	var claims struct{ OID, TID string }
	parts := strings.Split(r.Header.Get("Authorization"), ".")
	if len(parts) == 3 {
		if payload, err := base64.RawURLEncoding.DecodeString(parts[1]); err == nil {
			_ = json.Unmarshal(payload, &claims) // a payload that is no JSON has no claims
		}
	}
	if claims.OID == "" {
		claims.OID = nobody
	}
	if claims.TID == "" {
		claims.TID = nobody
	}
	return claims.OID, claims.TID
}
