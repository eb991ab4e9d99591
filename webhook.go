package holdfast

import (
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// Webhook is an address to which events are posted as JSON. Webhooks are the installation's: what a policy says about mail
// is not asked.
type Webhook struct {
	URL    string
	Secret SecretSource // with which the posts are signed
	Events []WebhookEvent
}

// WebhookEvent is a thing that webhooks are told of.
type WebhookEvent string

// The events.
const (
	EventSessionEnded WebhookEvent = "sessionEnded" // a session is done, retries included
	EventSLAReported  WebhookEvent = "slaReported"  // a day, week or month of an SLA policy closed
	EventSlotsMissed  WebhookEvent = "slotsMissed"  // slots of an SLA policy passed without a point in time
)

// WebhookEvents are all events.
func WebhookEvents() []WebhookEvent {
	return []WebhookEvent{EventSessionEnded, EventSLAReported, EventSlotsMissed}
}

// WebhooksMax is how many webhooks an installation has at the most.
const WebhooksMax = 20

// Hears reports whether the webhook is told of an event.
func (w Webhook) Hears(e WebhookEvent) bool { return slices.Contains(w.Events, e) }

// CheckWebhookURL refuses addresses that events must not be posted to: in the clear, except on this machine; and those that hold
// a password, which belongs where secrets are found.
func CheckWebhookURL(address string) error {
	const accepted = "https://HOST/PATH, or http:// on this machine alone"
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.Opaque != "" {
		return Errorf(KindInvalid, "%q is not the address of a webhook", address).WithHint(accepted)
	}
	switch {
	case u.User != nil:
		return Errorf(KindInvalid, "the address of a webhook holds a user or a password").WithHint("%s; posts are signed instead", accepted)
	case u.Fragment != "":
		return Errorf(KindInvalid, "%q has a fragment, which is never sent", address).WithHint(accepted)
	case u.Scheme == "https", u.Scheme == "http" && isThisMachine(u.Hostname()):
		return nil
	case u.Scheme == "http":
		return Errorf(KindInvalid, "%q is in the clear", address).WithHint(accepted)
	}
	return Errorf(KindInvalid, "%q has a scheme that is not known", address).WithHint(accepted)
}

func isThisMachine(host string) bool {
	address, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && address.Unmap().IsLoopback()
}
