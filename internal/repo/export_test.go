package repo

import (
	"context"

	"github.com/holdfast-backup/holdfast/internal/blob"
	"github.com/holdfast-backup/holdfast/internal/repo/layout"
	"github.com/holdfast-backup/holdfast/internal/repo/oplog"
)

// AuditedLog is the outcome of the first step of Verify.
type AuditedLog = oplog.Audited

// AuditLog does the first step of Verify.
func AuditLog(ctx context.Context, store blob.Store, o VerifyOptions) (AuditedLog, error) {
	return newVerifier(store, o).auditLog(ctx)
}

// CheckEntry returns an error unless the bytes prove themselves as a log entry of that name.
func CheckEntry(name string, stored []byte) error {
	n, err := layout.ParseEntryName(name)
	if err != nil {
		return err
	}
	return oplog.Check(stored, n)
}

// VerifyChanged is Verify for a store of which one object has changed since it was found sound. What has not changed is not
// looked at again: an object's check depends on its name and bytes alone (and the repository's id). audited is the audit of the
// store as it is: the one of the clean log when an object changed, and for a log entry that of the log without it, since what an
// entry that does not prove itself says is not looked at by the audit.
func VerifyChanged(ctx context.Context, store blob.Store, o VerifyOptions, audited AuditedLog, changed string) (Report, error) {
	v := newVerifier(store, o)
	v.sound = func(name string) bool { return name != changed }
	return v.check(ctx, audited)
}
