// Package azureconfig reads the file that --azure takes: which Azure to talk to, and as whom.
//
// It promises that a Config it returns names exactly one kind of credential with all that this kind needs, that its
// endpoints are https URLs, that its paths are absolute and lead to files, and that nothing of the file was ignored.
// Mistakes are errors of KindInvalid that name file, line, column and field. It yields plain values; package azure turns
// them into options of the SDK. Secrets print as [redacted]; it must never put one into an error.
//
// The twin writes the same format; doc/ describes it for users.
package azureconfig

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/strictyaml"
)

// Config is a checked configuration.
type Config struct {
	TenantID       string
	ClientID       string // of the application; for a managed identity: the user-assigned one, or empty
	Credential     CredentialKind
	ClientSecret   Secret // for CredentialSecret
	Certificate    string // for CredentialCertificate: the file, PEM or PKCS#12
	FederatedToken string // for CredentialWorkloadIdentity: the token's file, or empty for the one the environment names
	Cloud          Cloud
	Subscriptions  []string   // ids the inventory is limited to; empty means all that the credential sees
	Endpoints      *Endpoints // nil: those of Cloud
	CAFile         string     // extra trust for the endpoints, PEM; may be empty
}

// CredentialKind is how Holdfast proves who it is.
type CredentialKind string

// The kinds of credential.
const (
	CredentialSecret           CredentialKind = "clientSecret"
	CredentialCertificate      CredentialKind = "certificateFile"
	CredentialManagedIdentity  CredentialKind = "managedIdentity"
	CredentialWorkloadIdentity CredentialKind = "workloadIdentity"
)

// Cloud is one of Microsoft's clouds.
type Cloud string

// The clouds.
const (
	CloudPublic       Cloud = "public"
	CloudUSGovernment Cloud = "usGovernment"
	CloudChina        Cloud = "china"
)

// Endpoints replace those of a cloud: the twin's, or those of an Azure Stack.
type Endpoints struct {
	ResourceManager string // https, without a trailing slash
	ActiveDirectory string // https, without a trailing slash
	Blob            string // https, with {account} where the storage account's name goes
	KeyVault        string // https, with {vault} where the vault's name goes; may be empty
}

// BlobURL returns the URL of a storage account's blob service.
func (e Endpoints) BlobURL(account string) string {
	return strings.ReplaceAll(e.Blob, accountPlaceholder, account)
}

// Placeholders of names in endpoints.
const (
	accountPlaceholder = "{account}"
	vaultPlaceholder   = "{vault}"
)

// Secret is a text that never prints itself.
type Secret string

// Reveal returns the secret.
func (s Secret) Reveal() string { return string(s) }

// String implements fmt.Stringer without giving the secret away.
func (s Secret) String() string { return "[redacted]" }

// GoString implements fmt.GoStringer likewise.
func (s Secret) GoString() string { return "[redacted]" }

// MarshalText implements encoding.TextMarshaler likewise; JSON and slog's JSON handler use it.
func (s Secret) MarshalText() ([]byte, error) { return []byte("[redacted]"), nil }

// fields is the file as written.
type fields struct {
	TenantID           string          `yaml:"tenantId"`
	ClientID           string          `yaml:"clientId"`
	ClientSecret       string          `yaml:"clientSecret"`
	CertificateFile    string          `yaml:"certificateFile"`
	ManagedIdentity    bool            `yaml:"managedIdentity"`
	WorkloadIdentity   bool            `yaml:"workloadIdentity"`
	FederatedTokenFile string          `yaml:"federatedTokenFile"`
	Cloud              string          `yaml:"cloud"`
	SubscriptionID     string          `yaml:"subscriptionId"`
	SubscriptionIDs    []string        `yaml:"subscriptionIds"`
	Endpoints          *endpointFields `yaml:"endpoints"`
	CAFile             string          `yaml:"caFile"`
}

type endpointFields struct {
	ResourceManager string `yaml:"resourceManager"`
	ActiveDirectory string `yaml:"activeDirectory"`
	Blob            string `yaml:"blob"`
	KeyVault        string `yaml:"keyVault"`
}

// Read reads and checks the file. A file that is not there is KindNotFound.
func Read(file string) (Config, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return Config{}, holdfast.Wrap(holdfast.KindNotFound, err, "the Azure configuration %s cannot be read", file).
			WithHint("the twin writes azure.yaml into its folder when it is ready; for real Azure write one with tenantId, clientId and clientSecret")
	}
	folder, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return Config{}, holdfast.Wrap(holdfast.KindInternal, err, "the folder of %s has no absolute path", file)
	}
	r := reader{folder: folder}
	if r.document, err = strictyaml.Decode(filepath.Base(file), data, &r.fields); err != nil {
		return Config{}, err
	}
	return r.config()
}

// reader turns fields into a Config.
type reader struct {
	fields   fields
	document *strictyaml.Document
	folder   string
}

func (r *reader) config() (Config, error) {
	f := r.fields
	config := Config{TenantID: f.TenantID, ClientID: f.ClientID, ClientSecret: Secret(f.ClientSecret)}
	var err error
	if config.Credential, err = r.credential(); err != nil {
		return Config{}, err
	}
	if err := r.checkIdentity(config.Credential); err != nil {
		return Config{}, err
	}
	if config.Certificate, err = r.path("certificateFile", f.CertificateFile, fileMustExist); err != nil {
		return Config{}, err
	}
	if config.FederatedToken, err = r.path("federatedTokenFile", f.FederatedTokenFile, fileMayAppear); err != nil {
		return Config{}, err
	}
	if config.CAFile, err = r.path("caFile", f.CAFile, fileMustExist); err != nil {
		return Config{}, err
	}
	if config.Subscriptions, err = r.subscriptions(); err != nil {
		return Config{}, err
	}
	if config.Cloud, err = r.cloud(); err != nil {
		return Config{}, err
	}
	if config.Endpoints, err = r.endpoints(); err != nil {
		return Config{}, err
	}
	return config, nil
}

// credential finds the one kind that the file names.
func (r *reader) credential() (CredentialKind, error) {
	var given []CredentialKind
	for _, candidate := range []struct {
		kind CredentialKind
		set  bool
	}{
		{CredentialSecret, r.fields.ClientSecret != ""},
		{CredentialCertificate, r.fields.CertificateFile != ""},
		{CredentialManagedIdentity, r.fields.ManagedIdentity},
		{CredentialWorkloadIdentity, r.fields.WorkloadIdentity},
	} {
		if candidate.set {
			given = append(given, candidate.kind)
		}
	}
	const accepted = "give exactly one of clientSecret, certificateFile, managedIdentity: true, workloadIdentity: true"
	switch len(given) {
	case 0:
		return "", r.document.Errorf("clientSecret", "the file names no credential").WithHint(accepted)
	case 1:
		return given[0], nil
	}
	return "", r.document.Errorf(string(given[1]), "a second credential besides %s", given[0]).WithHint(accepted)
}

func (r *reader) checkIdentity(kind CredentialKind) error {
	application := kind == CredentialSecret || kind == CredentialCertificate
	switch {
	case application && r.fields.TenantID == "":
		return r.document.Errorf("tenantId", "missing; %s needs the tenant's id", kind)
	case application && r.fields.ClientID == "":
		return r.document.Errorf("clientId", "missing; %s needs the application's id", kind)
	case r.fields.FederatedTokenFile != "" && kind != CredentialWorkloadIdentity:
		return r.document.Errorf("federatedTokenFile", "has no meaning without workloadIdentity: true")
	case strings.ContainsAny(r.fields.TenantID, "/?# "):
		return r.document.Errorf("tenantId", "%q is no tenant; accepted: an id (GUID) or a domain", r.fields.TenantID)
	}
	return nil
}

func (r *reader) subscriptions() ([]string, error) {
	if r.fields.SubscriptionID != "" && len(r.fields.SubscriptionIDs) > 0 {
		return nil, r.document.Errorf("subscriptionIds", "set together with subscriptionId; give one of them")
	}
	if id := r.fields.SubscriptionID; id != "" {
		if !isGUID(id) {
			return nil, r.document.Errorf("subscriptionId", "%q is no subscription id; accepted: a GUID", id)
		}
		return []string{id}, nil
	}
	for i, id := range r.fields.SubscriptionIDs {
		if !isGUID(id) {
			return nil, r.document.Errorf(fmt.Sprintf("subscriptionIds[%d]", i), "%q is no subscription id; accepted: a GUID", id)
		}
	}
	return r.fields.SubscriptionIDs, nil
}

func (r *reader) cloud() (Cloud, error) {
	if r.fields.Cloud != "" && r.fields.Endpoints != nil {
		return "", r.document.Errorf("cloud", "set together with endpoints; give one of them")
	}
	switch strings.ToLower(r.fields.Cloud) {
	case "", "public", "azurecloud", "azurepublic":
		return CloudPublic, nil
	case "usgovernment", "azureusgovernment", "azuregovernment":
		return CloudUSGovernment, nil
	case "china", "azurechinacloud", "azurechina":
		return CloudChina, nil
	}
	return "", r.document.Errorf("cloud", "%q is no cloud; accepted: public, usGovernment, china", r.fields.Cloud)
}

func (r *reader) endpoints() (*Endpoints, error) {
	if r.fields.Endpoints == nil {
		return nil, nil
	}
	var e Endpoints
	var err error
	if e.ResourceManager, err = r.endpoint("endpoints.resourceManager", r.fields.Endpoints.ResourceManager); err != nil {
		return nil, err
	}
	if e.ActiveDirectory, err = r.endpoint("endpoints.activeDirectory", r.fields.Endpoints.ActiveDirectory); err != nil {
		return nil, err
	}
	e.Blob = r.fields.Endpoints.Blob
	if strings.Count(e.Blob, accountPlaceholder) != 1 {
		return nil, r.document.Errorf("endpoints.blob", "%q does not hold {account} once, where the storage account's name goes", e.Blob)
	}
	if _, err = r.endpoint("endpoints.blob", strings.ReplaceAll(e.Blob, accountPlaceholder, "account")); err != nil {
		return nil, err
	}
	if e.KeyVault, err = r.vaultEndpoint(r.fields.Endpoints.KeyVault); err != nil {
		return nil, err
	}
	return &e, nil
}

func (r *reader) vaultEndpoint(value string) (string, error) {
	const field = "endpoints.keyVault"
	if value == "" {
		return "", nil
	}
	if strings.Count(value, vaultPlaceholder) != 1 {
		return "", r.document.Errorf(field, "%q does not hold {vault} once, where the vault's name goes", value)
	}
	if _, err := r.endpoint(field, strings.ReplaceAll(value, vaultPlaceholder, "vault")); err != nil {
		return "", err
	}
	return strings.TrimSuffix(value, "/"), nil
}

func (r *reader) endpoint(field, value string) (string, error) {
	parsed, err := url.Parse(value)
	if err != nil || parsed.Scheme != "https" || parsed.Host == "" || parsed.User != nil || parsed.RawQuery != "" || parsed.Fragment != "" {
		return "", r.document.Errorf(field, "%q is not accepted; accepted: https://HOST[:PORT]", value).
			WithHint("tokens are sent to this address, so that it has to be https; a private CA goes into caFile")
	}
	return strings.TrimSuffix(value, "/"), nil
}

// presence says whether a file has to be there already.
type presence int

const (
	fileMustExist presence = iota
	fileMayAppear          // the platform may write it after we start
)

// path makes a path absolute, relative ones being relative to the configuration's folder.
func (r *reader) path(field, value string, wanted presence) (string, error) {
	if value == "" {
		return "", nil
	}
	if !filepath.IsAbs(value) {
		value = filepath.Join(r.folder, value)
	}
	if wanted == fileMayAppear {
		return value, nil
	}
	found, err := os.Stat(value)
	if err != nil || !found.Mode().IsRegular() {
		return "", r.document.Errorf(field, "there is no file %s", value).WithHint("paths are relative to the configuration's folder")
	}
	return value, nil
}

func isGUID(text string) bool {
	_, err := uuid.Parse(text)
	return err == nil && len(text) == 36
}
