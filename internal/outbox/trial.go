package outbox

import (
	"context"
	"crypto/rand"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/store"
)

// Tested is what became of a test message.
type Tested struct {
	Kind    store.MessageKind
	Address string // of a person, or a webhook, whose path may be a secret
	Err     error  // nil: it was taken
}

// Test sends a message that says nothing but that messages arrive, now and without a job, and returns what became of each copy: to one
// address; or, when none is given, to the installation's recipients and to all webhooks. Mail is sent although it is turned off. by
// says who asked. The error has KindInvalid when there is nothing to try.
func (o *Outbox) Test(ctx context.Context, to, by string) ([]Tested, error) {
	var i intentions
	err := o.config.Database.Read(ctx, func(ctx context.Context, q store.Query) (err error) {
		i, err = o.intentions(ctx, q)
		return err
	})
	if err != nil {
		return nil, err
	}
	recipients, hooks := []string{to}, []holdfast.Webhook(nil)
	if to == "" {
		recipients, hooks = nil, i.hooks()
		if i.settings.Mail != nil {
			recipients = i.settings.Mail.Recipients
		}
	}
	if len(recipients)+len(hooks) == 0 {
		return nil, holdfast.Errorf(holdfast.KindInvalid, "there is nobody to send a test message to").WithHint("name an address, or give the installation recipients or webhooks").WithField("to")
	}
	key := rand.Text() // each test is another one
	tested, err := o.testMail(ctx, i, key, recipients)
	if err != nil {
		return nil, err
	}
	for _, hook := range hooks {
		p, err := notify.TestPost(hook, key, o.now())
		if err != nil {
			return nil, err
		}
		_, err = o.sign(ctx, p)
		tested = append(tested, Tested{store.MessagePost, hook.URL, err})
	}
	failed := 0
	for _, t := range tested {
		if t.Err != nil {
			failed++
		}
	}
	o.config.Log.InfoContext(ctx, "test messages were sent", "by", by, "messages", len(tested), "failed", failed)
	return tested, nil
}

// testMail sends test mail. The error says that none could be made.
func (o *Outbox) testMail(ctx context.Context, i intentions, key string, recipients []string) ([]Tested, error) {
	messages := make([]notify.Message, 0, len(recipients))
	for _, to := range recipients {
		m, err := notify.Test(i.settings, key, to, o.now())
		if err != nil {
			return nil, err
		}
		messages = append(messages, m)
	}
	tested := make([]Tested, len(messages))
	for k, m := range messages {
		tested[k] = Tested{Kind: store.MessageMail, Address: m.To}
	}
	if len(messages) == 0 {
		return nil, nil
	}
	sender, _, err := o.sender(ctx, *i.settings.Mail)
	if err != nil {
		for k := range tested {
			tested[k].Err = err
		}
		return tested, nil
	}
	for k, r := range sender.Send(ctx, messages...) {
		tested[k].Err = r.Err
	}
	return tested, nil
}
