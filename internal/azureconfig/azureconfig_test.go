package azureconfig_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
)

func read(t *testing.T, text string) (azureconfig.Config, string, error) {
	t.Helper()
	folder := t.TempDir()
	for name, content := range map[string]string{"azure.yaml": text, "ca.pem": "x", "app.pem": "y"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	config, err := azureconfig.Read(filepath.Join(folder, "azure.yaml"))
	return config, folder, err
}

func TestRead_TheTwinsFile(t *testing.T) {
	config, folder, err := read(t, `
tenantId: 22222222-2222-2222-2222-222222222222
clientId: 33333333-3333-3333-3333-333333333333
clientSecret: geheim
endpoints: {resourceManager: https://127.0.0.1:1001/, activeDirectory: https://127.0.0.1:1001, blob: "https://127.0.0.1:1002/{account}"}
caFile: ca.pem                     # paths are relative to this file
`)
	if err != nil {
		t.Fatal(err)
	}
	if config.Credential != azureconfig.CredentialSecret || config.ClientSecret.Reveal() != "geheim" || config.CAFile != filepath.Join(folder, "ca.pem") ||
		config.Endpoints.ResourceManager != "https://127.0.0.1:1001" || config.Endpoints.BlobURL("vault") != "https://127.0.0.1:1002/vault" {
		t.Fatalf("got %+v", config)
	}
}

func TestRead_EveryKindOfCredential(t *testing.T) {
	for text, want := range map[string]azureconfig.CredentialKind{
		"tenantId: t\nclientId: c\nclientSecret: s":                          azureconfig.CredentialSecret,
		"tenantId: t\nclientId: c\ncertificateFile: app.pem":                 azureconfig.CredentialCertificate,
		"managedIdentity: true":                                              azureconfig.CredentialManagedIdentity,
		"managedIdentity: true\nclientId: c":                                 azureconfig.CredentialManagedIdentity,
		"workloadIdentity: true\nfederatedTokenFile: /var/run/secrets/token": azureconfig.CredentialWorkloadIdentity,
	} {
		config, _, err := read(t, text)
		if err != nil || config.Credential != want || config.Cloud != azureconfig.CloudPublic || config.Endpoints != nil {
			t.Errorf("%q: got %+v, %v", text, config, err)
		}
	}
}

func TestRead_Clouds(t *testing.T) {
	for name, want := range map[string]azureconfig.Cloud{
		"public": azureconfig.CloudPublic, "AzureChinaCloud": azureconfig.CloudChina, "usGovernment": azureconfig.CloudUSGovernment,
	} {
		config, _, err := read(t, "managedIdentity: true\ncloud: "+name)
		if err != nil || config.Cloud != want {
			t.Errorf("%s: got %s, %v", name, config.Cloud, err)
		}
	}
}

func TestRead_RefusesAndNamesTheField(t *testing.T) {
	const base = "tenantId: t\nclientId: c\nclientSecret: geheim\n"
	const endpoints = "endpoints: {resourceManager: https://h:1, activeDirectory: https://h:1, blob: \"https://h:2/{account}\"}\n"
	for _, c := range []struct{ text, field string }{
		{base + "region: west", "region"},
		{"tenantId: t\nclientId: c", "clientSecret"},
		{base + "managedIdentity: true", "managedIdentity"},
		{base + "certificateFile: app.pem", "certificateFile"},
		{"clientId: c\nclientSecret: geheim", "tenantId"},
		{"tenantId: t\ncertificateFile: app.pem", "clientId"},
		{"tenantId: t\nclientId: c\ncertificateFile: none.pem", "certificateFile"},
		{base + "caFile: none.pem", "caFile"},
		{base + "cloud: mars", "cloud"},
		{base + endpoints + "cloud: china", "cloud"},
		{base + "subscriptionId: mine", "subscriptionId"},
		{base + "subscriptionIds: [11111111-1111-1111-1111-111111111111, mine]", "subscriptionIds[1]"},
		{base + "federatedTokenFile: token", "federatedTokenFile"},
		{base + strings.Replace(endpoints, "https://h:1,", "http://h:1,", 1), "endpoints.resourceManager"},
		{base + strings.Replace(endpoints, "activeDirectory: https://h:1,", "", 1), "endpoints.activeDirectory"},
		{base + strings.Replace(endpoints, "{account}", "", 1), "endpoints.blob"},
		{base + strings.Replace(endpoints, "https://h:2", "ftp://h:2", 1), "endpoints.blob"},
		{base + strings.Replace(endpoints, "{account}\"}", "{account}\", keyVault: https://h:1}", 1), "endpoints.keyVault"},
		{base + strings.Replace(endpoints, "{account}\"}", "{account}\", keyVault: \"http://h:1/{vault}\"}", 1), "endpoints.keyVault"},
	} {
		_, _, err := read(t, c.text)
		var problem *holdfast.Error
		if !errors.As(err, &problem) || problem.Kind != holdfast.KindInvalid || problem.Field != c.field || !strings.HasPrefix(problem.Message, "azure.yaml") {
			t.Errorf("%q: got %v, want field %s", c.text, err, c.field)
		}
		if err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%q: the error gives the secret away: %v", c.text, err)
		}
	}
}

func TestRead_MissingFileIsNotFound(t *testing.T) {
	if _, err := azureconfig.Read(filepath.Join(t.TempDir(), "azure.yaml")); !holdfast.IsKind(err, holdfast.KindNotFound) {
		t.Fatalf("got %v", err)
	}
}

func TestSecret_NeverPrintsItself(t *testing.T) {
	config := azureconfig.Config{ClientSecret: "geheim"}
	asJSON, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{fmt.Sprintf("%v %+v %#v %s", config, config, config, config.ClientSecret), string(asJSON)} {
		if strings.Contains(printed, "geheim") || !strings.Contains(printed, "[redacted]") {
			t.Errorf("printed: %s", printed)
		}
	}
}
