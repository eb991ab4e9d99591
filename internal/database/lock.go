package database

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/holdfast-backup/holdfast"
)

// ownerBytesMax bounds what is read of a lock file; a line of ours is far shorter.
const ownerBytesMax = 256

// lockBeside keeps other processes away from a SQLite file until the returned file is closed or this process ends. The lock file
// stays where it is: to remove it would let two processes lock two files of that name.
func lockBeside(path string) (*os.File, error) {
	file, err := os.OpenFile(path+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, unopenable(path, err)
	}
	if err := lockFile(file); err != nil {
		owner := ownerOf(file)
		_ = file.Close()
		return nil, holdfast.Wrap(holdfast.KindConflict, err, "the database %s is in use by %s", path, owner).
			WithHint("stop that process, or let this one use the server that it runs; two servers share a database on PostgreSQL alone")
	}
	if err := signLock(file); err != nil {
		_ = file.Close()
		return nil, unopenable(path, err)
	}
	return file, nil
}

// signLock writes into the lock file who has it, for the message that another process shows.
func signLock(file *os.File) error {
	host, err := os.Hostname()
	if err != nil {
		host = "an unknown host" // best effort: the number of the process is what counts
	}
	if err := file.Truncate(0); err != nil {
		return err
	}
	_, err = file.WriteAt(fmt.Appendf(nil, "process %d on %s\n", os.Getpid(), host), 0)
	return err
}

func ownerOf(file *os.File) string {
	text, err := io.ReadAll(io.LimitReader(file, ownerBytesMax))
	owner := strings.TrimSpace(string(text))
	if err != nil || owner == "" { // best effort: its owner has not signed yet
		return "another process"
	}
	return owner
}
