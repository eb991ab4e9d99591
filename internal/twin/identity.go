package twin

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/twin/control"
	"github.com/holdfast-backup/holdfast/internal/twin/estate"
)

const identityFile = "twin.json"

// identity is what a folder's twin is for ever. It is changed by Start alone.
type identity struct {
	file string

	TenantID     string `json:"tenantId"`
	ClientID     string `json:"clientId"`
	ObjectID     string `json:"objectId"`
	ClientSecret string `json:"clientSecret"`
	ControlToken string `json:"controlToken"`
	ARMAddr      string `json:"armAddr,omitempty"`
	DataAddr     string `json:"dataAddr,omitempty"`
	Estate       string `json:"estate,omitempty"` // SHA-256 of the estate file; "" before the first start and "none" without one
	Seeded       bool   `json:"seeded"`           // the estate has been made in full
}

const noEstate = "none"

// openIdentity reads the folder's identity, or makes up a new one, which is not kept before save.
func openIdentity(dir string) (*identity, error) {
	i := &identity{file: filepath.Join(dir, identityFile)}
	data, err := os.ReadFile(i.file)
	if errors.Is(err, fs.ErrNotExist) {
		i.TenantID, i.ClientID, i.ObjectID = uuid.NewString(), uuid.NewString(), uuid.NewString()
		i.ClientSecret, i.ControlToken = rand.Text(), rand.Text()
		return i, nil
	}
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the twin's identity cannot be read")
	}
	if err := json.Unmarshal(data, i); err != nil {
		return nil, holdfast.Wrap(holdfast.KindCorrupt, err, "%s is damaged", i.file).WithHint("give the twin an empty folder")
	}
	return i, nil
}

func (i *identity) save() error {
	text, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return holdfast.Wrap(holdfast.KindInternal, err, "the twin's identity cannot be written")
	}
	return control.WritePrivately(i.file, append(text, '\n'))
}

// declaration is an estate file that was read.
type declaration struct {
	estate.Estate
	file, folder, hash string
}

// readEstate reads the estate file; nil stands for none.
func readEstate(file string) (*declaration, error) {
	if file == "" {
		return nil, nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindNotFound, err, "the estate file %s cannot be read", file)
	}
	folder := filepath.Dir(file)
	declared, err := estate.Parse(filepath.Base(file), data, folder)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(data)
	return &declaration{Estate: declared, file: file, folder: folder, hash: hex.EncodeToString(sum[:])}, nil
}

// declare checks that the estate is the folder's own, or takes it for a folder that has none yet.
func (i *identity) declare(declared *declaration) error {
	switch {
	case i.Estate == "" && declared == nil:
		i.Estate = noEstate
	case i.Estate == "":
		i.Estate = declared.hash
	case declared == nil && !i.Seeded:
		return holdfast.Errorf(holdfast.KindConflict, "the last start did not finish making the estate of this folder").
			WithHint("give the same --estate again, or an empty --dir").WithField("estate")
	case declared != nil && i.Estate != declared.hash:
		return holdfast.Errorf(holdfast.KindConflict, "the folder was made from another estate than %s", declared.file).
			WithHint("give an empty --dir, or the same estate file again, or none").WithField("estate")
	}
	return i.save()
}

// undeclare frees the folder for another estate.
func (i *identity) undeclare() error {
	i.Estate = ""
	return i.save()
}

// azureFile is the configuration that --azure takes.
func (i *identity) azureFile(e Endpoints) []byte {
	var text strings.Builder
	fmt.Fprintf(&text, "# Written by the twin: how to reach it and as whom. The secret opens nothing but this twin.\n")
	fmt.Fprintf(&text, "tenantId: %s\nclientId: %s\nclientSecret: %s\n", i.TenantID, i.ClientID, i.ClientSecret)
	fmt.Fprintf(&text, "endpoints:\n  resourceManager: %s\n  activeDirectory: %s\n  blob: %q\n  keyVault: %q\n", e.ResourceManager, e.ResourceManager, e.Blob, e.KeyVault)
	fmt.Fprintf(&text, "caFile: %s\n", filepath.Base(e.CAFile))
	return []byte(text.String())
}
