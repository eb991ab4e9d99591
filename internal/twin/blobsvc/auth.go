package blobsvc

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
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
	errAuthentication   = refuse(http.StatusForbidden, "AuthenticationFailed", "The signature or token does not fit the request.")
	errPermission       = refuse(http.StatusForbidden, "AuthorizationPermissionMismatch", "The SAS does not permit this operation.")
	errHTTPSOnly        = refuse(http.StatusBadRequest, "AccountRequiresHttps", "Without TLS only a SAS is accepted.")
	errKeysOff          = refuse(http.StatusForbidden, "KeyBasedAuthenticationNotPermitted", "The account does not accept its key, nor a SAS made with it.")
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
		g, err := s.checkSAS(c.sasRequest(op, a.accountRecord))
		c.grant = g
		return err
	case authorization == "":
		c.challenge()
		return errNoAuthentication
	case c.r.TLS == nil:
		return errHTTPSOnly
	case strings.EqualFold(scheme, "Bearer"):
		return s.checkBearer(c)
	case strings.EqualFold(scheme, "SharedKey"):
		if !a.SharedKey {
			return errKeysOff
		}
		return checkSharedKey(c, a.Key)
	}
	return refuse(http.StatusBadRequest, "InvalidAuthenticationInfo", "The authentication scheme is not known.")
}

// challenge tells clients which audience a token needs.
func (c *call) challenge() {
	c.w.Header().Set("WWW-Authenticate", "Bearer authorization_uri=https://login.microsoftonline.com/common/oauth2/authorize resource_id=https://storage.azure.com")
}

func (s *Service) checkBearer(c *call) error {
	if s.cfg.Verify == nil {
		return errAuthentication
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
