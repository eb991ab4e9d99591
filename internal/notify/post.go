package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

// payloadVersion is raised when a field changes its meaning or goes. New fields do not raise it: readers pass over what they do
// not know.
const payloadVersion = 1

// eventTest is the event of a post that shows that posts arrive. No webhook asks for it.
const eventTest holdfast.WebhookEvent = "test"

// Post is one event for one webhook.
type Post struct {
	Key   string // names what is told; with the webhook's address it names the delivery
	Hook  holdfast.Webhook
	Event holdfast.WebhookEvent
	Body  []byte // JSON; the same event always has the same
}

// Delivery names the post for ever, as that of a Message does.
func (p Post) Delivery() string {
	sum := sha256.Sum256([]byte("holdfast post 1\n" + p.Key + "\n" + p.Hook.URL))
	return hex.EncodeToString(sum[:16])
}

// payload is what is posted; doc/webhooks.md describes it.
type payload struct {
	Version  int                     `json:"version"`
	Event    holdfast.WebhookEvent   `json:"event"`
	At       time.Time               `json:"at"` // when it happened
	Policy   string                  `json:"policy,omitempty"`
	Session  *holdfast.Session       `json:"session,omitempty"`
	Items    []holdfast.SessionItem  `json:"items,omitempty"`
	SLA      *sla.Compliance         `json:"sla,omitempty"`
	Machines []sla.MachineCompliance `json:"machines,omitempty"`
	Slots    []sla.Expectation       `json:"slots,omitempty"`
}

// SessionPosts makes the posts about a session that is done, of whatever policy.
func SessionPosts(hooks []holdfast.Webhook, f Finished) ([]Post, error) {
	return posts(hooks, "session/"+string(f.Session.ID), payload{
		Event: holdfast.EventSessionEnded, At: f.Session.Ended, Policy: f.Session.Policy, Session: &f.Session, Items: f.Items,
	})
}

// ReportPosts makes the posts about a closed entry of an SLA policy.
func ReportPosts(hooks []holdfast.Webhook, c sla.Compliance, machines []sla.MachineCompliance) ([]Post, error) {
	return posts(hooks, reportKey(c), payload{Event: holdfast.EventSLAReported, At: c.Closed, Policy: c.Policy, SLA: &c, Machines: machines})
}

// MissedPosts makes the posts about missed slots of a policy. Expectations that were not missed are passed over.
func MissedPosts(hooks []holdfast.Webhook, policy string, expectations []sla.Expectation) ([]Post, error) {
	missed := missedOf(expectations)
	if len(missed) == 0 {
		return nil, nil
	}
	return posts(hooks, missedKey(policy, missed), payload{Event: holdfast.EventSlotsMissed, At: missed[len(missed)-1].Ended, Policy: policy, Slots: missed})
}

// TestPost makes the post that shows that posts arrive. The key is the caller's, since each test is another one.
func TestPost(hook holdfast.Webhook, key string, now time.Time) (Post, error) {
	hook.Events = []holdfast.WebhookEvent{eventTest}
	all, err := posts([]holdfast.Webhook{hook}, "test/"+key, payload{Event: eventTest, At: now})
	if err != nil {
		return Post{}, err
	}
	return all[0], nil
}

func posts(hooks []holdfast.Webhook, key string, p payload) ([]Post, error) {
	p.Version, p.At = payloadVersion, p.At.UTC()
	body, err := json.Marshal(p)
	if err != nil {
		return nil, holdfast.Wrap(holdfast.KindInternal, err, "the event %s cannot be written as JSON", p.Event)
	}
	var all []Post
	for _, hook := range hooks {
		if hook.Hears(p.Event) {
			all = append(all, Post{Key: key, Hook: hook, Event: p.Event, Body: slices.Clone(body)})
		}
	}
	return all, nil
}
