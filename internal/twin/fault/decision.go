package fault

import (
	"context"
	"time"

	"github.com/holdfast-backup/holdfast"
)

// Surface names the part of the twin that a rule acts on.
type Surface string

// The surfaces.
const (
	ARM   Surface = "arm"
	Entra Surface = "entra"
	Disk  Surface = "disk" // managed-disk data: export and import through SAS
	Blob  Surface = "blob"
	Vault Surface = "vault" // Key Vault
)

// Kind is what goes wrong.
type Kind string

// The kinds of fault. The middleware carries out throttle, error, cut, slow and lost by itself; revoke, stale-list, omit-ranges and
// fail-operation are carried out by the handlers, which find the Decision in the request's context.
const (
	Throttle      Kind = "throttle"       // 429 with Retry-After
	Error         Kind = "error"          // 5xx
	Cut           Kind = "cut"            // the connection breaks in the middle of the answer's body
	Slow          Kind = "slow"           // the answer comes late
	Lost          Kind = "lost"           // the connection breaks before any answer; with AfterEffect the work was done
	Revoke        Kind = "revoke"         // the SAS in use is revoked before this request is served
	StaleList     Kind = "stale-list"     // a list misses what was created lately
	OmitRanges    Kind = "omit-ranges"    // a list of changes leaves out a part of the disk
	FailOperation Kind = "fail-operation" // the long-running operation that this request starts ends as Failed
)

// Decision is what the fault engine decided for one request. The zero value means: nothing goes wrong.
type Decision struct {
	Kind        Kind
	Rule        int             // index of the rule that fired
	RetryAfter  time.Duration   // for throttle and error
	Delay       time.Duration   // for slow
	AfterEffect bool            // the request takes effect, then the answer is spoilt
	Omit        holdfast.Extent // for omit-ranges
	Status      int             // for error; 0 means 500
	Code        string          // ARM or storage error code for error and fail-operation; "" means the usual one
}

type contextKey struct{}

// With returns a context that carries d.
func With(ctx context.Context, d Decision) context.Context {
	return context.WithValue(ctx, contextKey{}, d)
}

// From returns the decision for the request that ctx belongs to; the zero value when nothing is to go wrong.
func From(ctx context.Context) Decision {
	d, _ := ctx.Value(contextKey{}).(Decision)
	return d
}
