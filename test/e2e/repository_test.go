package e2e

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/holdfast-backup/holdfast/internal/blob/file"
	"github.com/holdfast-backup/holdfast/internal/clock"
	"github.com/holdfast-backup/holdfast/internal/repo"
	"github.com/holdfast-backup/holdfast/internal/repo/repotest"
)

// initRepository makes the world's repository.
func (w *world) initRepository() {
	w.t.Helper()
	w.initRepositoryAt(w.repo)
}

// initRepositoryAt makes what `repo init` makes (TestContract and TestKeys_… hold that), with a password that is cheap to try: these
// tests start the program a thousand times, and the usual cost of a password would be nine tenths of what they do.
func (w *world) initRepositoryAt(address string) {
	w.t.Helper()
	place, inAzure := strings.CutPrefix(address, "azblob://")
	if !inAzure {
		initFolder(w.t, address)
		return
	}
	folder := w.t.TempDir()
	initFolder(w.t, folder)
	account, place, _ := strings.Cut(place, "/")
	name, prefix, _ := strings.Cut(place, "/")
	client, err := w.client().ContainerClient(account, name, nil)
	must(w.t, err)
	must(w.t, filepath.WalkDir(folder, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		object, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		_, err = client.NewBlockBlobClient(prefix+"/"+filepath.ToSlash(object)).Upload(w.t.Context(), streaming.NopCloser(bytes.NewReader(content)), nil)
		return err
	}))
}

// initFolder makes a repository in a folder.
func initFolder(t *testing.T, folder string) {
	t.Helper()
	store, err := file.Open(folder, file.Options{})
	must(t, err)
	_, err = repo.Init(t.Context(), store, repo.InitOptions{Password: password, KDF: repotest.FastKDF(), Clock: clock.System{}, Tool: "e2e"})
	must(t, err)
}
