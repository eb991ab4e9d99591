package sparse

import (
	"os"

	"golang.org/x/sys/unix"
)

// StartWriteback asks the system to begin writing a part of a file to its disk, so that a later Sync finds less to do. It is
// advice: nothing is promised, and a system that cannot is no error.
func StartWriteback(f *os.File, offset, length int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, length, unix.SYNC_FILE_RANGE_WRITE) // advice
}
