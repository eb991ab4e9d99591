package entra_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/golang-jwt/jwt/v5"

	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/twin/entra"
)

const (
	tenant = "22222222-2222-2222-2222-222222222222"
	client = "33333333-3333-3333-3333-333333333333"
	secret = "correct horse battery staple"
)

// fixture is a service on a TLS server, with one application that has a secret and a certificate.
type fixture struct {
	*entra.Service
	clock       *clock.Manual
	server      *httptest.Server
	key         *rsa.PrivateKey
	certificate *x509.Certificate
	keyFile     string
}

func start(t *testing.T) *fixture {
	t.Helper()
	// The SDK's clients read the machine's time; ours follows it from the start and is moved by hand.
	f := &fixture{clock: clock.NewManual(clock.System{}.Now()), keyFile: filepath.Join(t.TempDir(), "key.pem")}
	f.server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { f.Handler().ServeHTTP(w, r) }))
	t.Cleanup(f.server.Close)
	f.Service = f.open(t)
	return f
}

func (f *fixture) open(t *testing.T) *entra.Service {
	t.Helper()
	service, err := entra.New(entra.Config{
		KeyFile: f.keyFile, Clock: f.clock, Tenant: tenant, BaseURL: func() string { return f.server.URL },
		Audiences: func() []string { return []string{f.server.URL} },
	})
	if err != nil {
		t.Fatal(err)
	}
	if f.key == nil {
		f.key, f.certificate = newCertificate(t)
	}
	service.Register(entra.Application{ClientID: client, ObjectID: "the-principal", Secret: secret, Certificates: []*x509.Certificate{f.certificate}})
	return service
}

func newCertificate(t *testing.T) (*rsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "app"}, NotAfter: clock.System{}.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, certificate
}

func (f *fixture) clientOptions() azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud: cloud.Configuration{ActiveDirectoryAuthorityHost: f.server.URL}, Transport: f.server.Client(),
		Retry: policy.RetryOptions{MaxRetries: -1},
	}
}

func (f *fixture) secretCredential(t *testing.T, tenantID, clientID, clientSecret string) azcore.TokenCredential {
	t.Helper()
	credential, err := azidentity.NewClientSecretCredential(tenantID, clientID, clientSecret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: f.clientOptions(), DisableInstanceDiscovery: true})
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

func bearer(token string) *http.Request {
	r := httptest.NewRequest("GET", "/subscriptions", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

func scope(audience string) policy.TokenRequestOptions {
	return policy.TokenRequestOptions{Scopes: []string{audience + "/.default"}}
}

func TestClientSecretCredential_TokensAreGoodForTheirAudience(t *testing.T) {
	f := start(t)
	credential := f.secretCredential(t, tenant, client, secret)
	for _, audience := range []string{"https://management.azure.com", "https://management.core.windows.net/", "https://storage.azure.com", "https://disk.azure.com", f.server.URL, "https://shopvault.blob.core.windows.net"} {
		token, err := credential.GetToken(t.Context(), scope(audience))
		if err != nil {
			t.Errorf("%s: %v", audience, err)
			continue
		}
		claims, err := f.Verify(bearer(token.Token), "https://elsewhere/", strings.TrimSuffix(audience, "/"))
		if err != nil || claims.Principal != "the-principal" || claims.ClientID != client || claims.TenantID != tenant {
			t.Errorf("%s: claims %+v, %v", audience, claims, err)
		}
	}
}

func TestClientCertificateCredential_AssertionsOfARegisteredCertificateAreAccepted(t *testing.T) {
	f := start(t)
	credential := func(certificate *x509.Certificate, key crypto.PrivateKey) azcore.TokenCredential {
		credential, err := azidentity.NewClientCertificateCredential(tenant, client, []*x509.Certificate{certificate}, key,
			&azidentity.ClientCertificateCredentialOptions{ClientOptions: f.clientOptions(), DisableInstanceDiscovery: true})
		if err != nil {
			t.Fatal(err)
		}
		return credential
	}
	token, err := credential(f.certificate, f.key).GetToken(t.Context(), scope("https://management.azure.com"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Verify(bearer(token.Token), entra.AudienceARM); err != nil {
		t.Fatal(err)
	}
	foreignKey, foreign := newCertificate(t)
	_, err = credential(foreign, foreignKey).GetToken(t.Context(), scope("https://management.azure.com"))
	if err == nil || !strings.Contains(err.Error(), "AADSTS700027") {
		t.Fatalf("an unregistered certificate: %v", err)
	}
}

func TestTokenEndpoint_RefusesWithThePlatformsCodes(t *testing.T) {
	f := start(t)
	for _, c := range []struct {
		name                     string
		tenant, client, password string
		audience, code           string
	}{
		{"wrong secret", tenant, client, "guess", "https://management.azure.com", "AADSTS7000215"},
		{"unknown client", tenant, "44444444-4444-4444-4444-444444444444", secret, "https://management.azure.com", "AADSTS700016"},
		{"unknown tenant", "44444444-4444-4444-4444-444444444444", client, secret, "https://management.azure.com", "AADSTS90002"},
		{"unknown resource", tenant, client, secret, "https://vault.example", "AADSTS500011"},
	} {
		_, err := f.secretCredential(t, c.tenant, c.client, c.password).GetToken(t.Context(), scope(c.audience))
		if err == nil || !strings.Contains(err.Error(), c.code) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.code)
		}
		if err != nil && strings.Contains(err.Error(), "guess") {
			t.Errorf("%s: the answer repeats the secret", c.name)
		}
	}
}

// post sends a token request by hand and returns status and body.
func (f *fixture) post(t *testing.T, path string, form url.Values) (int, map[string]any) {
	t.Helper()
	return answer(t)(f.server.Client().PostForm(f.server.URL+path, form))
}

func (f *fixture) get(t *testing.T, path string) (int, map[string]any) {
	t.Helper()
	return answer(t)(f.server.Client().Get(f.server.URL + path))
}

// answer reads what came back as JSON.
func answer(t *testing.T) func(*http.Response, error) (int, map[string]any) {
	return func(response *http.Response, err error) (int, map[string]any) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		data, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		body := map[string]any{}
		if err := json.Unmarshal(data, &body); err != nil {
			t.Fatalf("%s: %s", err, data)
		}
		return response.StatusCode, body
	}
}

func TestTokenEndpoint_V1AndADFSPathsAndCasing(t *testing.T) {
	f := start(t)
	for _, path := range []string{"/" + tenant + "/oauth2/token", "/adfs/oauth2/token", "/ADFS/OAuth2/Token"} {
		status, body := f.post(t, path, url.Values{
			"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {secret}, "resource": {"https://management.core.windows.net/"},
		})
		if status != http.StatusOK || body["expires_in"] != "3600" || body["resource"] != "https://management.core.windows.net/" {
			t.Errorf("%s: %d %v", path, status, body)
			continue
		}
		if _, err := f.Verify(bearer(body["access_token"].(string)), entra.AudienceARM, entra.AudienceARMLegacy); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestConfiguration_TenantBehindADFS asks as azure-cli 2.45 does when its authority ends in /adfs and the tenant is a name:
// the third segment of the issuer is what it logs in to.
func TestConfiguration_TenantBehindADFS(t *testing.T) {
	f := start(t)
	for path, third := range map[string]string{
		"/adfs/adfs/.well-known/openid-configuration":           "adfs",
		"/adfs/.well-known/openid-configuration":                "adfs",
		"/adfs/" + tenant + "/.well-known/openid-configuration": tenant,
	} {
		status, body := f.get(t, path)
		issuer, _ := body["issuer"].(string)
		if parts := strings.Split(issuer, "/"); status != http.StatusOK || len(parts) < 4 || parts[3] != third {
			t.Errorf("%s: %d, issuer %q", path, status, issuer)
		}
	}
	if status, _ := f.get(t, "/adfs/elsewhere/.well-known/openid-configuration"); status != http.StatusBadRequest {
		t.Errorf("a foreign tenant behind /adfs: %d", status)
	}
}

func TestTokenEndpoint_RefusesIncompleteRequests(t *testing.T) {
	f := start(t)
	good := url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {secret}, "scope": {"https://management.azure.com/.default"}}
	if status, body := f.post(t, "/"+tenant+"/oauth2/v2.0/token", good); status != 200 || body["token_type"] != "Bearer" {
		t.Fatalf("the whole request: %d %v", status, body)
	}
	for _, c := range []struct {
		field, value string
		status       int
		code         float64
	}{
		{"grant_type", "password", 400, 70003},
		{"client_id", "", 400, 900144},
		{"client_secret", "", 401, 7000218},
		{"scope", "", 400, 900144},
		{"scope", "User.Read", 400, 1002012},
		{"client_assertion", "x.y.z", 400, 50027},
	} {
		form := url.Values{}
		maps.Copy(form, good)
		form.Set(c.field, c.value)
		status, body := f.post(t, "/"+tenant+"/oauth2/v2.0/token", form)
		if status != c.status || body["error_codes"].([]any)[0] != c.code {
			t.Errorf("%s=%q: %d %v", c.field, c.value, status, body)
		}
	}
}

func TestTokenEndpoint_ChecksEveryClaimOfAnAssertion(t *testing.T) {
	f := start(t)
	now := f.clock.Now()
	base := func() jwt.MapClaims {
		return jwt.MapClaims{"iss": client, "sub": client, "aud": f.server.URL + "/" + tenant + "/oauth2/v2.0/token", "exp": now.Add(10 * time.Minute).Unix()}
	}
	send := func(method jwt.SigningMethod, claims jwt.MapClaims, key any) (int, map[string]any) {
		digest := sha256.Sum256(f.certificate.Raw)
		token := jwt.NewWithClaims(method, claims)
		token.Header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(digest[:])
		assertion, err := token.SignedString(key)
		if err != nil {
			t.Fatal(err)
		}
		return f.post(t, "/"+tenant+"/oauth2/v2.0/token", url.Values{
			"grant_type": {"client_credentials"}, "client_assertion": {assertion}, "scope": {"https://management.azure.com/.default"},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		})
	}
	for _, method := range []jwt.SigningMethod{jwt.SigningMethodRS256, jwt.SigningMethodPS256} {
		if status, body := send(method, base(), f.key); status != http.StatusOK {
			t.Fatalf("%s: %d %v", method.Alg(), status, body)
		}
	}
	for name, change := range map[string]func(jwt.MapClaims){
		"foreign issuer":  func(c jwt.MapClaims) { c["iss"] = "other" },
		"foreign subject": func(c jwt.MapClaims) { c["sub"] = "other" },
		"wrong audience":  func(c jwt.MapClaims) { c["aud"] = "https://elsewhere/token" },
		"expired":         func(c jwt.MapClaims) { c["exp"] = now.Add(-time.Second).Unix() },
		"no expiry":       func(c jwt.MapClaims) { delete(c, "exp") },
		"endless":         func(c jwt.MapClaims) { c["exp"] = now.Add(1000 * time.Hour).Unix() },
	} {
		claims := base()
		change(claims)
		if status, body := send(jwt.SigningMethodRS256, claims, f.key); status == http.StatusOK {
			t.Errorf("%s was accepted: %v", name, body)
		}
	}
	if status, _ := send(jwt.SigningMethodHS256, base(), []byte("secret")); status != http.StatusUnauthorized {
		t.Errorf("a symmetric signature: %d", status)
	}
}

func (f *fixture) token(t *testing.T, audience string) string {
	t.Helper()
	_, body := f.post(t, "/"+tenant+"/oauth2/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {secret}, "resource": {audience},
	})
	token, ok := body["access_token"].(string)
	if !ok {
		t.Fatalf("no token: %v", body)
	}
	return token
}

func TestVerify_RefusesWithThePlatformsCodes(t *testing.T) {
	f := start(t)
	forger, _ := newCertificate(t)
	forged, err := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"aud": entra.AudienceARM, "tid": tenant, "exp": f.clock.Now().Add(time.Hour).Unix()}).SignedString(forger)
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, jwt.MapClaims{"aud": entra.AudienceARM, "tid": tenant, "exp": f.clock.Now().Add(time.Hour).Unix()}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, header, code string }{
		{"missing", "", "AuthenticationFailed"},
		{"other scheme", "Basic abc", "AuthenticationFailedInvalidHeader"},
		{"rubbish", "Bearer abc", "InvalidAuthenticationToken"},
		{"forged", "Bearer " + forged, "InvalidAuthenticationToken"},
		{"unsigned", "Bearer " + unsigned, "InvalidAuthenticationToken"},
		{"wrong audience", "Bearer " + f.token(t, entra.AudienceStorage), "InvalidAuthenticationTokenAudience"},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		if c.header != "" {
			r.Header.Set("Authorization", c.header)
		}
		_, err := f.Verify(r, entra.AudienceARM)
		var refusal *entra.Refusal
		if !errors.As(err, &refusal) || refusal.Code != c.code || refusal.Status != 401 || !strings.HasPrefix(refusal.Challenge, "Bearer authorization_uri=") {
			t.Errorf("%s: got %v, want %s", c.name, err, c.code)
		}
	}
}

func TestVerify_TokensEndWhenTheirLifeIsOver(t *testing.T) {
	f := start(t)
	f.SetLifetime(time.Minute)
	token := f.token(t, entra.AudienceARM)
	if _, err := f.Verify(bearer(token), entra.AudienceARM); err != nil {
		t.Fatal(err)
	}
	f.clock.Advance(time.Minute)
	var refusal *entra.Refusal
	if _, err := f.Verify(bearer(token), entra.AudienceARM); !errors.As(err, &refusal) || refusal.Code != "ExpiredAuthenticationToken" {
		t.Fatalf("after a minute: %v", err)
	}
}

func TestNew_TokensOutliveARestartAndTheKeyIsPrivate(t *testing.T) {
	f := start(t)
	token := f.token(t, entra.AudienceARM)
	if _, err := f.open(t).Verify(bearer(token), entra.AudienceARM); err != nil {
		t.Fatal(err)
	}
	found, err := os.Stat(f.keyFile)
	if err != nil || found.Mode().Perm() != 0o600 {
		t.Fatalf("key file %v, %v", found.Mode(), err)
	}
}

func TestKeySet_VerifiesTokens(t *testing.T) {
	f := start(t)
	response, err := f.server.Client().Get(f.server.URL + "/" + tenant + "/discovery/v2.0/keys")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var set struct{ Keys []struct{ Kid, N, E string } }
	if err := json.NewDecoder(response.Body).Decode(&set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("%+v %v", set, err)
	}
	modulus, _ := base64.RawURLEncoding.DecodeString(set.Keys[0].N)
	exponent, _ := base64.RawURLEncoding.DecodeString(set.Keys[0].E)
	key := &rsa.PublicKey{N: new(big.Int).SetBytes(modulus), E: int(new(big.Int).SetBytes(exponent).Int64())}
	parsed, err := jwt.NewParser(jwt.WithoutClaimsValidation()).Parse(f.token(t, entra.AudienceARM), func(token *jwt.Token) (any, error) {
		if token.Header["kid"] != set.Keys[0].Kid {
			return nil, errors.New("another kid")
		}
		return key, nil
	})
	if err != nil || !parsed.Valid {
		t.Fatal(err)
	}
}

func TestOwns_TellsIdentityPathsFromARMs(t *testing.T) {
	for path, want := range map[string]bool{
		"/" + tenant + "/oauth2/v2.0/token": true, "/adfs/oauth2/token": true, "/common/discovery/instance": true,
		"/" + tenant + "/v2.0/.well-known/openid-configuration": true, "/adfs/.well-known/openid-configuration": true, "/common/discovery/keys": true,
		"/subscriptions/x/resourceGroups/oauth2/token": false, "/subscriptions": false, "/": false, "": false,
	} {
		if entra.Owns(path) != want {
			t.Errorf("Owns(%q) = %v", path, !want)
		}
	}
}
