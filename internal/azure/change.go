package azure

import (
	"context"
	"errors"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azure/answer"
)

// change is a change of the cloud whose outcome must be known in the end.
type change struct {
	doing string // "delete the snapshot x": part of every error message
	// attempt sends the request once and waits for its operation.
	attempt func(ctx context.Context) error
	// look finds out by name whether the change has taken effect. It is asked only when that is unknown.
	look func(ctx context.Context) (done bool, err error)
}

// errInProgress says that somebody (perhaps a request of ours whose answer got lost) is at work on the resource.
var errInProgress = errors.New("the resource is still being changed")

// carryOut makes a change and does not return before its outcome is known or the attempts are used up.
func (c *Client) carryOut(ctx context.Context, ch change) error {
	for attempt := 1; ; attempt++ {
		err := ch.attempt(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return answer.Explain(ctx.Err(), ch.doing)
		}
		if !answer.Unknown(err) && !answer.Conflict(err) || attempt >= c.options.Retry.Attempts {
			return answer.Explain(err, ch.doing)
		}
		asked := answer.RetryAfter(err, c.clock.Now())
		c.log.InfoContext(ctx, "outcome unknown, waiting to look", "doing", ch.doing, "attempt", attempt, "wait", asked.String(), "code", answer.Code(err))
		if done, err := c.await(ctx, ch, asked, attempt); done || err != nil {
			return err
		}
	}
}

// await waits as long as asked, then looks until nobody is at work on the resource any more.
func (c *Client) await(ctx context.Context, ch change, asked time.Duration, attempt int) (bool, error) {
	wait := min(max(asked, c.options.Retry.Delay<<(attempt-1)), c.options.Retry.DelayMax)
	for {
		if err := c.clock.Sleep(ctx, wait); err != nil {
			return false, answer.Explain(err, ch.doing)
		}
		done, err := ch.look(ctx)
		switch {
		case err == nil:
			return done, nil
		case errors.Is(err, errInProgress):
			wait = c.options.PollEvery
		default:
			return false, answer.Explain(err, ch.doing)
		}
	}
}

// finish starts a long-running operation with a single request and waits for its end. The SDK repeats the polls, which are
// reads, but not the request itself: whether that may be repeated is decided by carryOut.
func finish[T any](ctx context.Context, c *Client, begin func(ctx context.Context) (*runtime.Poller[T], error)) (T, error) {
	poller, err := begin(policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1}))
	if err != nil {
		var none T
		return none, err
	}
	return poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: c.options.PollEvery})
}

// stateOf turns a provisioning state into what look reports.
func stateOf(state string) (done bool, err error) {
	switch state {
	case "", "Succeeded":
		return true, nil
	case "Failed", "Canceled":
		return false, nil
	}
	return false, errInProgress
}

// sameTags reports whether the resource bears all the tags that we give ours.
func sameTags(found, ours map[string]string) bool {
	for name, value := range ours {
		if found[name] != value {
			return false
		}
	}
	return true
}

// taken says that a name chosen for ours is held by another resource.
func taken(id holdfast.ResourceID) error {
	return holdfast.Errorf(holdfast.KindRefused, "%s exists already and was not made by this run", id).
		WithHint("rename or remove it, then try again")
}

// text turns an optional string of the SDK into an ordinary one.
func text[T ~string](p *T) string {
	if p == nil {
		return ""
	}
	return string(*p)
}

// value turns an optional value of the SDK into an ordinary one.
func value[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}

func tagsOf(tags map[string]*string) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	plain := make(map[string]string, len(tags))
	for name, v := range tags {
		plain[name] = value(v)
	}
	return plain
}

func tagsFor(tags map[string]string) map[string]*string {
	pointers := make(map[string]*string, len(tags))
	for name, v := range tags {
		pointers[name] = &v
	}
	return pointers
}

func first(list []*string) string {
	if len(list) == 0 {
		return ""
	}
	return value(list[0])
}

func pointer[T any](v T) *T { return &v }
