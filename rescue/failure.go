package main

import (
	"context"
	"errors"
	"fmt"
)

// The kinds of failures, as doc/cli.md names them; a subset, since this program has no network and no owner.
const (
	kindInvalid  = "invalid"  // bad input
	kindNotFound = "notFound" // what was named does not exist
	kindCorrupt  = "corrupt"  // damage was found
	kindWrongKey = "wrongKey" // the password or key does not open this
	kindCanceled = "canceled" // somebody stopped it
	kindInternal = "internal" // everything else: the disk is full, a folder cannot be read
)

// failure is an error fit for the person at the keyboard: what is wrong, and what to do.
type failure struct {
	Kind    string `json:"kind"`
	Message string `json:"message"`
	Hint    string `json:"hint"`
	Field   string `json:"field"` // the flag that is wrong, without its dashes

	newer bool // a later version than this program knows is the reason
}

func (f *failure) Error() string { return f.Message }

// failed makes a failure of a kind without a hint.
func failed(kind, format string, arguments ...any) *failure {
	return &failure{Kind: kind, Message: fmt.Sprintf(format, arguments...)}
}

// hinting adds what to do.
func (f *failure) hinting(format string, arguments ...any) *failure {
	f.Hint = fmt.Sprintf(format, arguments...)
	return f
}

// about says which flag is wrong.
func (f *failure) about(field string) *failure {
	f.Field = field
	return f
}

// damaged says that bytes are not what the format wants.
func damaged(format string, arguments ...any) *failure {
	return failed(kindCorrupt, format, arguments...)
}

// newer says that the repository was written by a later version than this program knows (§13).
func newer(format string, arguments ...any) *failure {
	f := failed(kindInvalid, format, arguments...).hinting("take the rescue program of a newer Holdfast; this one knows format 1")
	f.newer = true
	return f
}

// isNewer reports whether a later version is the reason of an error.
func isNewer(err error) bool { return err != nil && asFailure(err).newer }

// asFailure turns any error into a failure; what wraps one keeps its kind and hint, and says more.
func asFailure(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		whole := *f
		whole.Message = err.Error()
		return &whole
	}
	if errors.Is(err, context.Canceled) {
		return failed(kindCanceled, "interrupted")
	}
	return failed(kindInternal, "%v", err)
}

// isKind reports whether an error is a failure of that kind.
func isKind(err error, kind string) bool { return err != nil && asFailure(err).Kind == kind }

// exitCode is the exit code that doc/cli.md gives a kind.
func exitCode(kind string) int {
	switch kind {
	case kindInvalid:
		return 2
	case kindNotFound:
		return 3
	case kindCorrupt:
		return 4
	case kindWrongKey:
		return 6
	default:
		return 1
	}
}
