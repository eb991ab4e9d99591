//go:build unix

package twin

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holdfast-backup/holdfast"
)

// lockFolder keeps other twins out of dir until the file is closed or the process ends.
func lockFolder(dir string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindUnavailable, err, "the twin's folder %s cannot be locked", dir)
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, holdfast.Wrap(holdfast.KindConflict, err, "another twin serves the folder %s", dir).
			WithHint("stop it, or give another --dir")
	}
	return file, nil
}
