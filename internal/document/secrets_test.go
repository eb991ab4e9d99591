package document_test

import (
	"slices"
	"testing"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/document"
)

// TestSecrets proves that every kind of secret is found under the name by which a server keeps it, relative files at the document's
// folder, in a part of a set whose other documents are elsewhere; and that a document with a mistake in it hides no other one.
func TestSecrets(t *testing.T) {
	files := []document.File{
		{Name: "a.yaml", Folder: "/etc/holdfast", Data: []byte(`kind: Repository
name: shelf
url: /srv/shelf
passwordFrom: {file: secrets/shelf}
---
kind: Repository
name: broken
url: nowhere://
passwordFrom: {file: secrets/broken}
---
kind: StorageTemplate
name: standard
backups: {default: of another file}
---
kind: Repository
name: open
url: /srv/open
encrypted: false
`)},
		{Name: "/etc/b.yaml", Data: []byte(`kind: Installation
mail: {server: mail.example.com, from: a@example.com, recipients: [b@example.com], user: a, passwordFrom: {environment: MAIL}}
webhooks:
  - {url: "https://hooks.example.com/x", secretFrom: {environment: HOOK}}
  - {url: "https://hooks.example.com/y", secretFrom: {vaultSecret: "https://v.vault.azure.net/secrets/hook"}}
`)},
	}
	want := []document.Secret{
		{Name: "repository/shelf", Kind: document.KindRepository, Of: "shelf", Source: holdfast.SecretSource{File: "/etc/holdfast/secrets/shelf"}},
		{Name: "mail", Kind: document.KindInstallation, Source: holdfast.SecretSource{Environment: "MAIL"}},
		{Name: "webhook/https://hooks.example.com/x", Kind: document.KindInstallation, Source: holdfast.SecretSource{Environment: "HOOK"}},
		{Name: "webhook/https://hooks.example.com/y", Kind: document.KindInstallation, Source: holdfast.SecretSource{VaultSecret: "https://v.vault.azure.net/secrets/hook"}},
	}
	if got := document.Secrets(files...); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}
