package database

import (
	"os"

	"golang.org/x/sys/windows"
)

// lockFile takes the lock of an open file, or fails at once. Windows keeps others from reading what is locked, so the lock lies on
// a byte far behind the text.
func lockFile(file *os.File) error {
	const far = 1 << 20
	return windows.LockFileEx(windows.Handle(file.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK|windows.LOCKFILE_FAIL_IMMEDIATELY, 0, 1, 0, &windows.Overlapped{Offset: far})
}
