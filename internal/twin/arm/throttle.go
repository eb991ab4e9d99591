package arm

import (
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-backup/holdfast/internal/clock"
)

// Limits switches or scales the platform's rate limits.
type Limits struct {
	Off    bool
	Factor float64 // multiplies bucket sizes and refill rates; 0 means 1
}

// Class is a provider's own rate limit on a sort of call, beside ARM's; the zero value has none. The numbers are per
// minute and bucket, as azure.md §4.2 lists them.
type Class struct {
	Name                              string // such as PutVM
	PerResource, ResourceBucket       float64
	PerSubscription, SubscriptionSize float64
}

// PollingClass is the limit on asking for an operation's status.
func PollingClass() Class {
	return Class{Name: "GetOperation", PerResource: 15, ResourceBucket: 45, PerSubscription: 5000, SubscriptionSize: 15000}
}

// ARM's own buckets (azure.md §4.1).
const (
	readBucket, readRefill   = 250, 25 // tokens, tokens per second
	writeBucket, writeRefill = 200, 10
	globalFactor             = 15 // all principals of a subscription together
	bucketsMax               = 100_000
)

type bucket struct {
	tokens float64
	at     time.Time
}

type throttle struct {
	clock clock.Clock

	mu      sync.Mutex
	limits  Limits            // guarded by mu
	buckets map[string]bucket // guarded by mu
}

func newThrottle(c clock.Clock, limits Limits) *throttle {
	return &throttle{clock: c, limits: limits, buckets: map[string]bucket{}}
}

func (t *throttle) set(limits Limits) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limits, t.buckets = limits, map[string]bucket{}
}

// charge is one bucket that a call takes a token from.
type charge struct {
	key          string
	size, refill float64 // tokens, tokens per second
	header       string
	prefix       string // of the header's value
	refusal      func() *Error
}

// demand is what the limits look at of a call.
type demand struct {
	principal, subscription, method string
	class                           Class
	resource                        string
}

// admit takes a token from every bucket that applies, or from none and returns 429. It sets the headers either way.
func (t *throttle) admit(header http.Header, d demand) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.limits.Off {
		return nil
	}
	if len(t.buckets) > bucketsMax {
		t.buckets = map[string]bucket{}
	}
	factor := t.limits.Factor
	if factor == 0 {
		factor = 1
	}
	charges := append(armCharges(d.principal, d.subscription, d.method), classCharges(d.class, d.subscription, d.resource)...)
	now := t.clock.Now()
	for _, c := range charges {
		left := t.level(c, factor, now)
		if left < 1 {
			refusal := c.refusal()
			wait := math.Ceil((1 - left) / (c.refill * factor))
			refusal.Header = http.Header{"Retry-After": {strconv.Itoa(int(max(1, wait)))}}
			header.Set(c.header, c.prefix+"0")
			return refusal
		}
	}
	for _, c := range charges {
		left := t.level(c, factor, now) - 1
		t.buckets[c.key] = bucket{tokens: left, at: now}
		value := c.prefix + strconv.Itoa(int(left))
		if present := header.Get(c.header); present != "" {
			value = present + "," + value
		}
		header.Set(c.header, value)
	}
	return nil
}

// level returns how many tokens a bucket holds now.
func (t *throttle) level(c charge, factor float64, now time.Time) float64 {
	size := max(1, c.size*factor)
	b, ok := t.buckets[c.key]
	if !ok {
		return size
	}
	return min(size, b.tokens+now.Sub(b.at).Seconds()*c.refill*factor)
}

func armCharges(principal, subscription, method string) []charge {
	kind, size, refill := "reads", float64(readBucket), float64(readRefill)
	switch method {
	case http.MethodDelete:
		kind, size, refill = "deletes", writeBucket, writeRefill
	case http.MethodPut, http.MethodPatch, http.MethodPost:
		kind, size, refill = "writes", writeBucket, writeRefill
	}
	refusal := func() *Error {
		return Errorf(http.StatusTooManyRequests, "SubscriptionRequestsThrottled", "Number of %s for subscription '%s' exceeded the limit. Please try again after the time in Retry-After.", kind, subscription)
	}
	if subscription == "" {
		return []charge{{key: "tenant/" + principal + "/" + kind, size: size, refill: refill, header: "X-Ms-Ratelimit-Remaining-Tenant-" + title(kind), refusal: refusal}}
	}
	return []charge{
		{key: "principal/" + principal + "/" + subscription + "/" + kind, size: size, refill: refill, header: "X-Ms-Ratelimit-Remaining-Subscription-" + title(kind), refusal: refusal},
		{key: "global/" + subscription + "/" + kind, size: size * globalFactor, refill: refill * globalFactor, header: "X-Ms-Ratelimit-Remaining-Subscription-Global-" + title(kind), refusal: refusal},
	}
}

func classCharges(class Class, subscription, resource string) []charge {
	var charges []charge
	refusal := func() *Error {
		return Errorf(http.StatusTooManyRequests, "TooManyRequests", "The request is being throttled: too many %s calls.", class.Name)
	}
	const header = "X-Ms-Ratelimit-Remaining-Resource"
	if class.ResourceBucket > 0 && resource != "" {
		charges = append(charges, charge{key: fmt.Sprintf("class/%s/%s", class.Name, strings.ToLower(resource)), size: class.ResourceBucket, refill: class.PerResource / 60, header: header, prefix: "Microsoft.Compute/" + class.Name + "Resource;", refusal: refusal})
	}
	if class.SubscriptionSize > 0 {
		charges = append(charges, charge{key: fmt.Sprintf("class/%s/%s", class.Name, subscription), size: class.SubscriptionSize, refill: class.PerSubscription / 60, header: header, prefix: "Microsoft.Compute/" + class.Name + "Subscription;", refusal: refusal})
	}
	return charges
}

func title(word string) string { return strings.ToUpper(word[:1]) + word[1:] }
