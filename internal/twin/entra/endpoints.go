package entra

import (
	"crypto/sha1" //nolint:gosec // x5t, the older thumbprint of RFC 7515, is SHA-1 by definition; it only finds the certificate
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
)

// adfsTenant is the path of AD FS, where a tenant's id stands otherwise.
const adfsTenant = "adfs"

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// Owns reports whether the path is one of the identity provider's, as opposed to ARM's on the same listener.
func Owns(path string) bool { return endpointOf(path) != unknownEndpoint }

type endpoint int

const (
	unknownEndpoint endpoint = iota
	tokenV1
	tokenV2
	openIDConfiguration
	instanceDiscovery
	keySet
)

// endpointOf ignores the tenant, which is checked later, and casing.
func endpointOf(path string) endpoint {
	if strings.EqualFold(path, "/common/discovery/instance") {
		return instanceDiscovery
	}
	_, rest := split(path)
	return endpointBehind(rest)
}

// split cuts a path into its tenant and what follows. The Azure CLI is told an authority that ends in /adfs and sets a
// tenant's name behind it all the same when it resolves the name, so that AD FS stands before the tenant then
// (azure-cli 2.45, profile/_validators.py: '{}/{}/.well-known/openid-configuration').
func split(path string) (tenant, rest string) {
	tenant, rest, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if !strings.EqualFold(tenant, adfsTenant) || endpointBehind(rest) != unknownEndpoint {
		return tenant, rest
	}
	tenant, rest, _ = strings.Cut(rest, "/")
	return tenant, rest
}

func endpointBehind(rest string) endpoint {
	switch strings.ToLower(rest) {
	case "oauth2/token":
		return tokenV1
	case "oauth2/v2.0/token":
		return tokenV2
	case ".well-known/openid-configuration", "v2.0/.well-known/openid-configuration":
		return openIDConfiguration
	case "discovery/keys", "discovery/v2.0/keys":
		return keySet
	}
	return unknownEndpoint
}

// Handler serves the endpoints.
func (s *Service) Handler() http.Handler { return http.HandlerFunc(s.serve) }

func (s *Service) serve(w http.ResponseWriter, r *http.Request) {
	tenant, _ := split(r.URL.Path)
	which := endpointOf(r.URL.Path)
	wanted := http.MethodGet
	if which == tokenV1 || which == tokenV2 {
		wanted = http.MethodPost
	}
	switch {
	case which == unknownEndpoint:
		http.NotFound(w, r)
		return
	case r.Method != wanted:
		w.Header().Set("Allow", wanted)
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	case which != instanceDiscovery && !s.knowsTenant(tenant):
		s.fail(w, oauthError{
			http.StatusBadRequest, "invalid_tenant", 90002,
			fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", tenant),
		})
		return
	}
	switch which {
	case tokenV1, tokenV2:
		s.serveToken(w, r, which)
	case openIDConfiguration:
		s.serveConfiguration(w, tenant)
	case instanceDiscovery:
		s.serveInstance(w)
	case keySet:
		s.serveKeys(w)
	case unknownEndpoint: // refused above
	}
}

// knowsTenant: the AD FS path stands for the one tenant, as it does for the Azure CLI on a private cloud.
func (s *Service) knowsTenant(tenant string) bool {
	return strings.EqualFold(tenant, s.config.Tenant) || strings.EqualFold(tenant, adfsTenant)
}

func (s *Service) serveConfiguration(w http.ResponseWriter, tenant string) {
	base := s.config.BaseURL() + "/" + tenant
	configuration := map[string]any{
		"issuer": base + "/v2.0", "token_endpoint": base + "/oauth2/v2.0/token", "authorization_endpoint": base + "/oauth2/v2.0/authorize",
		"jwks_uri": base + "/discovery/v2.0/keys", "token_endpoint_auth_methods_supported": []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		"response_types_supported": []string{"code", "id_token", "token"}, "subject_types_supported": []string{"pairwise"},
		"id_token_signing_alg_values_supported": []string{"RS256"}, "scopes_supported": []string{"openid"},
	}
	if strings.EqualFold(tenant, adfsTenant) {
		configuration["issuer"], configuration["token_endpoint"] = base, base+"/oauth2/token"
	}
	writeJSON(w, http.StatusOK, configuration)
}

func (s *Service) serveInstance(w http.ResponseWriter) {
	host := strings.TrimPrefix(s.config.BaseURL(), "https://")
	writeJSON(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": s.config.BaseURL() + "/" + s.config.Tenant + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  []any{map[string]any{"preferred_network": host, "preferred_cache": host, "aliases": []string{host}}},
	})
}

func (s *Service) serveKeys(w http.ResponseWriter) {
	encode := base64.RawURLEncoding.EncodeToString
	writeJSON(w, http.StatusOK, map[string]any{"keys": []any{map[string]any{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": s.keyID, "x5t": s.keyID,
		"n": encode(s.key.N.Bytes()), "e": encode(big.NewInt(int64(s.key.E)).Bytes()),
	}}})
}

func (s *Service) serveToken(w http.ResponseWriter, r *http.Request, which endpoint) {
	r.Body = http.MaxBytesReader(w, r.Body, formBytesMax)
	if err := r.ParseForm(); err != nil {
		s.fail(w, oauthError{http.StatusBadRequest, "invalid_request", 900144, "The request body cannot be read as a form."})
		return
	}
	application, audience, err := s.grant(r, which)
	if err != nil {
		var refusal oauthError
		errors.As(err, &refusal) // grant returns nothing else
		s.fail(w, refusal)
		return
	}
	token, expires, err := s.issue(application, audience)
	if err != nil {
		s.fail(w, oauthError{http.StatusInternalServerError, "server_error", 90033, "The token could not be signed."})
		return
	}
	seconds := int64(expires.Sub(s.config.Clock.Now().Truncate(time.Second)) / time.Second)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
	if which == tokenV2 {
		writeJSON(w, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token})
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{ // the v1 endpoint writes numbers as texts
		"token_type": "Bearer", "expires_in": strconv.FormatInt(seconds, 10), "expires_on": strconv.FormatInt(expires.Unix(), 10),
		"not_before": strconv.FormatInt(expires.Unix()-seconds, 10), "resource": audience, "access_token": token,
	})
}

// grant decides about a token request: who asks, and for what. An error is an oauthError.
func (s *Service) grant(r *http.Request, which endpoint) (Application, string, error) {
	form := r.PostForm
	if grantType := form.Get("grant_type"); grantType != "client_credentials" {
		return Application{}, "", oauthError{
			http.StatusBadRequest, "unsupported_grant_type", 70003,
			fmt.Sprintf("The app requested an unsupported grant type '%s'.", grantType),
		}
	}
	application, err := s.authenticate(r, form)
	if err != nil {
		return Application{}, "", err
	}
	audience, err := requestedAudience(form, which)
	if err != nil {
		return Application{}, "", err
	}
	if !s.knowsAudience(audience) {
		return Application{}, "", oauthError{
			http.StatusBadRequest, "invalid_resource", 500011,
			fmt.Sprintf("The resource principal named %s was not found in the tenant named %s.", audience, s.config.Tenant),
		}
	}
	return application, audience, nil
}

func requestedAudience(form url.Values, which endpoint) (string, error) {
	if resource := form.Get("resource"); resource != "" && which == tokenV1 {
		return resource, nil
	}
	for scope := range strings.FieldsSeq(form.Get("scope")) {
		if audience, isDefault := strings.CutSuffix(scope, "/.default"); isDefault {
			return audience, nil
		}
		if scope != "openid" && scope != "profile" && scope != "offline_access" {
			return "", oauthError{
				http.StatusBadRequest, "invalid_scope", 1002012,
				fmt.Sprintf("The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default suffixed to the resource identifier.", scope),
			}
		}
	}
	name := "scope"
	if which == tokenV1 {
		name = "resource"
	}
	return "", oauthError{http.StatusBadRequest, "invalid_request", 900144, fmt.Sprintf("The request body must contain the following parameter: '%s'.", name)}
}

// authenticate finds the application and checks its secret or assertion.
func (s *Service) authenticate(r *http.Request, form url.Values) (Application, error) {
	clientID, secret := form.Get("client_id"), form.Get("client_secret")
	if user, password, ok := r.BasicAuth(); ok && clientID == "" {
		clientID, secret = user, password
	}
	assertion := form.Get("client_assertion")
	if clientID == "" && assertion != "" {
		clientID = unverifiedIssuer(assertion)
	}
	s.mu.Lock()
	application, known := s.applications[strings.ToLower(clientID)]
	s.mu.Unlock()
	switch {
	case clientID == "":
		return Application{}, oauthError{http.StatusBadRequest, "invalid_request", 900144, "The request body must contain the following parameter: 'client_id'."}
	case !known:
		return Application{}, oauthError{
			http.StatusBadRequest, "unauthorized_client", 700016,
			fmt.Sprintf("Application with identifier '%s' was not found in the directory '%s'.", clientID, s.config.Tenant),
		}
	case assertion != "":
		return application, s.checkAssertion(application, form.Get("client_assertion_type"), assertion)
	case secret == "":
		return Application{}, oauthError{
			http.StatusUnauthorized, "invalid_client", 7000218,
			"The request body must contain the following parameter: 'client_assertion' or 'client_secret'.",
		}
	case application.Secret == "" || !equalSecret(secret, application.Secret):
		return Application{}, oauthError{
			http.StatusUnauthorized, "invalid_client", 7000215,
			fmt.Sprintf("Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the client secret ID, for a secret added to app '%s'.", application.ClientID),
		}
	}
	return application, nil
}

// unverifiedIssuer reads the issuer, only to find the application whose certificates the assertion is then checked with.
func unverifiedIssuer(assertion string) string {
	var claims jwt.RegisteredClaims
	if _, _, err := jwt.NewParser().ParseUnverified(assertion, &claims); err != nil {
		return ""
	}
	return claims.Issuer
}

// checkAssertion checks a JWT that the application signed with the key of a registered certificate (RFC 7523).
func (s *Service) checkAssertion(application Application, kind, assertion string) error {
	invalid := func(reason string) error {
		return oauthError{http.StatusUnauthorized, "invalid_client", 700027, "The certificate with identifier used to sign the client assertion is not registered on application, or the assertion is invalid: " + reason}
	}
	if kind != assertionType {
		return oauthError{http.StatusBadRequest, "invalid_request", 50027, "The client_assertion_type must be '" + assertionType + "'."}
	}
	var claims jwt.RegisteredClaims
	_, err := jwt.NewParser(jwt.WithValidMethods([]string{"RS256", "PS256"}), jwt.WithoutClaimsValidation()).
		ParseWithClaims(assertion, &claims, func(token *jwt.Token) (any, error) {
			certificate := findCertificate(application.Certificates, token.Header)
			if certificate == nil {
				return nil, errors.New("no registered certificate has its thumbprint")
			}
			return certificate.PublicKey, nil
		})
	if err != nil {
		return invalid("its signature does not hold.")
	}
	now := s.config.Clock.Now()
	switch {
	case !strings.EqualFold(claims.Issuer, application.ClientID) || !strings.EqualFold(claims.Subject, application.ClientID):
		return invalid("issuer and subject must be the client id.")
	case len(claims.Audience) != 1 || !s.isTokenAddress(claims.Audience[0]):
		return invalid("its audience must be the token endpoint.")
	case claims.ExpiresAt == nil || !now.Before(claims.ExpiresAt.Time):
		return oauthError{http.StatusUnauthorized, "invalid_client", 700024, "Client assertion is not within its valid time range."}
	case claims.ExpiresAt.Sub(now) > assertionLifeMax:
		return invalid("it is valid for too long.")
	}
	return nil
}

// isTokenAddress: clients address an assertion to the token endpoint or, for AD FS and older ones, to the authority.
func (s *Service) isTokenAddress(audience string) bool {
	rest, ours := strings.CutPrefix(audience, s.config.BaseURL()+"/")
	if !ours {
		return false
	}
	tenant, path, _ := strings.Cut(rest, "/")
	return s.knowsTenant(tenant) && (path == "" || path == "v2.0" || path == "oauth2/token" || path == "oauth2/v2.0/token")
}

// findCertificate looks for the certificate whose thumbprint the token's header names.
func findCertificate(certificates []*x509.Certificate, header map[string]any) *x509.Certificate {
	named := func(field string, digest []byte) bool {
		text, _ := header[field].(string)
		text = strings.TrimRight(text, "=")
		return text != "" && (text == base64.RawURLEncoding.EncodeToString(digest) || text == base64.RawStdEncoding.EncodeToString(digest))
	}
	for _, certificate := range certificates {
		short, long := sha1.Sum(certificate.Raw), sha256.Sum256(certificate.Raw) //nolint:gosec // as at the import
		if named("x5t#S256", long[:]) || named("x5t", short[:]) {
			return certificate
		}
	}
	return nil
}

// oauthError is a refusal of the token endpoint.
type oauthError struct {
	status int
	code   string // OAuth's error
	number int    // the AADSTS number
	text   string
}

func (e oauthError) Error() string { return fmt.Sprintf("AADSTS%d: %s", e.number, e.text) }

func (s *Service) fail(w http.ResponseWriter, e oauthError) {
	trace, correlation, now := uuid.NewString(), uuid.NewString(), s.config.Clock.Now().UTC().Format("2006-01-02 15:04:05Z")
	w.Header().Set("Cache-Control", "no-store")
	writeJSON(w, e.status, map[string]any{
		"error":             e.code,
		"error_description": fmt.Sprintf("%s Trace ID: %s Correlation ID: %s Timestamp: %s", e.Error(), trace, correlation, now),
		"error_codes":       []int{e.number}, "timestamp": now, "trace_id": trace, "correlation_id": correlation,
	})
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // best effort: the client may have gone
}
