package holdfast

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what sort of failure an error is. The list is closed: a kind maps to an exit code, an HTTP status and a retry
// decision, each in one function.
type Kind string

// The kinds of failure.
const (
	KindInvalid     Kind = "invalid"     // the input is wrong; Field names the part
	KindNotFound    Kind = "notFound"    // what was named does not exist
	KindConflict    Kind = "conflict"    // another operation stands in the way; may pass
	KindRefused     Kind = "refused"     // locked, owned by someone else, or denied
	KindThrottled   Kind = "throttled"   // the service asks to wait
	KindUnavailable Kind = "unavailable" // cannot be reached, or failed and may recover
	KindCorrupt     Kind = "corrupt"     // stored data is damaged
	KindWrongKey    Kind = "wrongKey"    // the password or key does not open the repository
	KindCanceled    Kind = "canceled"    // the caller gave up
	KindInternal    Kind = "internal"    // a defect of ours, or an unknown failure
)

// Error is a failure told to two readers: Message and Hint are fit for an operator, Err is for the log.
type Error struct {
	Kind    Kind
	Message string // what happened, in one sentence, without a stack of prefixes
	Hint    string // what to do next; may be empty
	Field   string // the input field at fault; may be empty
	Err     error  // the cause; may be nil
}

// Error returns the message, followed by the cause.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an Error of the given kind without a cause; it takes no %w verb.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an Error of the given kind whose cause is err.
func Wrap(kind Kind, err error, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Err: err}
}

// WithHint returns a copy of e that tells the reader what to do next.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithField returns a copy of e that names the input field at fault.
func (e *Error) WithField(field string) *Error {
	c := *e
	c.Field = field
	return &c
}

// KindOf returns the kind of the outermost Error in err's chain. A cancelled context is KindCanceled; anything else
// unknown is KindInternal. KindOf(nil) is the empty kind.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	if errors.Is(err, context.Canceled) {
		return KindCanceled
	}
	return KindInternal
}

// IsKind reports whether err is of the given kind.
func IsKind(err error, kind Kind) bool { return KindOf(err) == kind }

// Invariant stops the program when cond is false: going on would put data at risk.
func Invariant(cond bool, format string, args ...any) {
	if !cond {
		panic("broken invariant: " + fmt.Sprintf(format, args...))
	}
}
