//go:build unix

package database

import (
	"os"

	"golang.org/x/sys/unix"
)

// lockFile takes the lock of an open file, or fails at once. The lock goes with the file, also when the process is killed.
func lockFile(file *os.File) error { return unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
