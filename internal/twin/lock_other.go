//go:build !unix

package twin

import (
	"os"
	"path/filepath"

	"github.com/holdfast-backup/holdfast"
)

// lockFolder relies on the volume store's own lock here: two twins in one folder fail a little later.
func lockFolder(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the twin's folder %s cannot be locked", dir)
	}
	return file, nil
}
