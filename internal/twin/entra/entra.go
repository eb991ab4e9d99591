// Package entra is the twin's identity provider: it gives tokens to registered applications and checks them for the
// other services of the twin.
//
// It promises what clients of the platform can meet: client_credentials with a secret or with an assertion signed by a
// registered certificate, on the v2, v1 and AD FS endpoints; discovery documents; RS256 tokens for one audience that end;
// and refusals with the platform's AADSTS codes. Verify refuses a missing, foreign, expired or wrongly addressed token. It
// must never issue a token for a resource it does not know, nor log or return a secret.
//
// Sources: Microsoft identity platform, "OAuth 2.0 client credentials flow" and "Error codes" (2026); RFC 7519, RFC 7523.
package entra

import (
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

// The audiences of the services that the twin plays. A trailing slash makes no difference.
const (
	AudienceARM       = "https://management.azure.com/"
	AudienceARMLegacy = "https://management.core.windows.net/"
	AudienceStorage   = "https://storage.azure.com/"
	AudienceDisk      = "https://disk.azure.com/"
	AudienceVault     = "https://vault.azure.net/"
)

const (
	// defaultLifetime is the shortest life of the platform's tokens, which last 60 to 90 minutes.
	defaultLifetime = time.Hour
	// formBytesMax bounds a token request; a certificate assertion with its chain has less than 20 KiB.
	formBytesMax = 256 << 10
	// assertionLifeMax is how long a client assertion may be valid.
	assertionLifeMax = 24 * time.Hour
)

// Config says what a Service needs; all fields but Lifetime and Audiences are required.
type Config struct {
	KeyFile string // where the signing key is kept, made if missing, so that tokens outlive a restart
	Clock   clock.Clock
	BaseURL func() string // https URL under which Handler is served, without a trailing slash
	Tenant  string        // the one tenant: a GUID
	// Lifetime of a token; 0 means an hour.
	Lifetime time.Duration
	// Audiences are known besides the constants, such as the twin's own ARM address. It is asked for every token.
	Audiences func() []string
}

// Application is a service principal that may ask for tokens.
type Application struct {
	ClientID     string
	ObjectID     string // of the service principal: the principal in Claims; empty means the client id
	Secret       string // empty: none accepted
	Certificates []*x509.Certificate
}

// Service issues and checks tokens. Safe for concurrent use.
type Service struct {
	config Config
	key    *rsa.PrivateKey
	keyID  string

	mu           sync.Mutex
	applications map[string]Application // guarded by mu; by lower-cased client id
	lifetime     time.Duration          // guarded by mu
	signed       map[string]tokenClaims // guarded by mu; of tokens whose signature was found to be ours
}

// signedMax bounds how many tokens are remembered: far more than there are callers.
const signedMax = 1_000

// New returns a service without applications. It makes the signing key if KeyFile does not exist.
func New(config Config) (*Service, error) {
	if config.Clock == nil || config.BaseURL == nil || config.KeyFile == "" {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "the identity provider needs a key file, a clock and its URL")
	}
	if _, err := uuid.Parse(config.Tenant); err != nil {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "%q is no tenant id; accepted: a GUID", config.Tenant)
	}
	key, err := loadKey(config.KeyFile)
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(x509.MarshalPKCS1PublicKey(&key.PublicKey))
	s := &Service{config: config, key: key, keyID: base64.RawURLEncoding.EncodeToString(digest[:20]), applications: map[string]Application{}, signed: map[string]tokenClaims{}}
	s.SetLifetime(config.Lifetime)
	return s, nil
}

// Register adds an application, or replaces the one with the same client id.
func (s *Service) Register(application Application) {
	if application.ObjectID == "" {
		application.ObjectID = application.ClientID
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applications[strings.ToLower(application.ClientID)] = application
}

// SetLifetime changes how long tokens live that are issued from now on; 0 means an hour.
func (s *Service) SetLifetime(lifetime time.Duration) {
	if lifetime <= 0 {
		lifetime = defaultLifetime
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifetime = lifetime
}

// Claims are what a valid token says.
type Claims struct {
	Principal string // object id of the service principal
	ClientID  string
	TenantID  string
	Audience  string
	Expires   time.Time
}

// tokenClaims is the payload of our tokens.
type tokenClaims struct {
	jwt.RegisteredClaims
	ApplicationID string `json:"appid"`
	ObjectID      string `json:"oid"`
	TenantID      string `json:"tid"`
	IdentityType  string `json:"idtyp"`
	Version       string `json:"ver"`
}

// Refusal says why a request is not let in. The services of the twin turn it into their own error body.
type Refusal struct {
	Status    int
	Code      string // ARM's error code
	Message   string
	Challenge string // value of WWW-Authenticate
}

// Error returns code and message.
func (r *Refusal) Error() string { return r.Code + ": " + r.Message }

// Verify checks the request's bearer token, which must be addressed to one of audiences. An error is a *Refusal.
func (s *Service) Verify(r *http.Request, audiences ...string) (Claims, error) {
	scheme, raw, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if scheme == "" {
		return Claims{}, s.refuse("AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	}
	if !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return Claims{}, s.refuse("AuthenticationFailedInvalidHeader", "Authentication failed. The 'Authorization' header is provided in an invalid format.")
	}
	claims, err := s.signedClaims(raw)
	if err != nil {
		return Claims{}, s.refuse("InvalidAuthenticationToken", "The access token is invalid.")
	}
	now := s.config.Clock.Now()
	if claims.ExpiresAt == nil || !now.Before(claims.ExpiresAt.Time) {
		return Claims{}, s.refuse("ExpiredAuthenticationToken", "The access token expiry UTC time is earlier than current UTC time.")
	}
	if claims.TenantID != s.config.Tenant || len(claims.Audience) != 1 {
		return Claims{}, s.refuse("InvalidAuthenticationTokenTenant", "The access token is from the wrong issuer.")
	}
	audience := claims.Audience[0]
	if !containsAudience(audiences, audience) {
		return Claims{}, s.refuse("InvalidAuthenticationTokenAudience",
			fmt.Sprintf("The access token has been obtained for wrong audience or resource '%s'. It should exactly match one of the allowed audiences '%s'.", audience, strings.Join(audiences, "','")))
	}
	return Claims{
		Principal: claims.ObjectID, ClientID: claims.ApplicationID, TenantID: claims.TenantID, Audience: audience, Expires: claims.ExpiresAt.Time,
	}, nil
}

// signedClaims returns what a token says that we signed. Callers show the same token thousands of times, and its signature stays what it is.
func (s *Service) signedClaims(raw string) (tokenClaims, error) {
	s.mu.Lock()
	claims, known := s.signed[raw]
	s.mu.Unlock()
	if known {
		return claims, nil
	}
	_, err := jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation()).
		ParseWithClaims(raw, &claims, func(*jwt.Token) (any, error) { return &s.key.PublicKey, nil })
	if err != nil {
		return claims, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.signed) >= signedMax {
		clear(s.signed)
	}
	s.signed[raw] = claims
	return claims, nil
}

func (s *Service) refuse(code, message string) *Refusal {
	return &Refusal{
		Status: http.StatusUnauthorized, Code: code, Message: message,
		Challenge: fmt.Sprintf(`Bearer authorization_uri="%s/%s", error="invalid_token", error_description="%s"`,
			s.config.BaseURL(), s.config.Tenant, strings.ReplaceAll(message, `"`, "'")),
	}
}

// issue signs a token for the application.
func (s *Service) issue(application Application, audience string) (token string, expires time.Time, err error) {
	s.mu.Lock()
	lifetime := s.lifetime
	s.mu.Unlock()
	now := s.config.Clock.Now().Truncate(time.Second)
	expires = now.Add(lifetime)
	unsigned := jwt.NewWithClaims(jwt.SigningMethodRS256, tokenClaims{
		RegisteredClaims: jwt.RegisteredClaims{
			Issuer: s.config.BaseURL() + "/" + s.config.Tenant + "/", Subject: application.ObjectID, Audience: jwt.ClaimStrings{audience},
			ExpiresAt: jwt.NewNumericDate(expires), NotBefore: jwt.NewNumericDate(now), IssuedAt: jwt.NewNumericDate(now), ID: uuid.NewString(),
		},
		ApplicationID: application.ClientID, ObjectID: application.ObjectID, TenantID: s.config.Tenant, IdentityType: "app", Version: "1.0",
	})
	unsigned.Header["kid"], unsigned.Header["x5t"] = s.keyID, s.keyID
	token, err = unsigned.SignedString(s.key)
	return token, expires, err
}

// knowsAudience reports whether tokens are issued for the resource.
func (s *Service) knowsAudience(audience string) bool {
	known := []string{AudienceARM, AudienceARMLegacy, AudienceStorage, AudienceDisk, AudienceVault}
	if s.config.Audiences != nil {
		known = append(known, s.config.Audiences()...)
	}
	return containsAudience(known, audience) || isStorageAccount(audience)
}

// isStorageAccount: storage also takes tokens addressed to one account.
func isStorageAccount(audience string) bool {
	return strings.HasPrefix(audience, "https://") && strings.HasSuffix(strings.TrimSuffix(audience, "/"), ".blob.core.windows.net")
}

func containsAudience(audiences []string, wanted string) bool {
	for _, audience := range audiences {
		if strings.EqualFold(strings.TrimSuffix(audience, "/"), strings.TrimSuffix(wanted, "/")) {
			return true
		}
	}
	return false
}

func equalSecret(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
