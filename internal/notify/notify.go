// Package notify decides who is told what: given what happened and the settings, it makes the messages, and nothing is sent.
//
// It promises that each recipient gets one copy, whatever lists he stands in and in whatever case; that a policy which
// notifies nobody notifies nobody, the installation's recipients included; that the same event makes the same messages, with
// the same keys, so that a second delivery is known as one; that text and HTML of a message say the same; and that nothing
// that comes from a guest, a cloud or a document becomes a header, markup or a control character.
//
// It is pure: it reads no clock, sends nothing and opens nothing.
package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/civil"
)

// Settings are what an installation says of notifications.
type Settings struct {
	Mail *holdfast.Mail // nil: no mail
	Zone *time.Location // in which times are told; nil: UTC
}

// SettingsOf reads an installation's settings. The error has KindInvalid: its zone is not known.
func SettingsOf(i holdfast.Installation) (Settings, error) {
	zone, err := time.LoadLocation(i.Zone)
	if err != nil {
		return Settings{}, holdfast.Wrap(holdfast.KindInvalid, err, "%q is not a time zone", i.Zone).WithHint("an IANA name such as Europe/Berlin").WithField("zone")
	}
	return Settings{Mail: i.Mail, Zone: zone}, nil
}

func (s Settings) zone() *time.Location {
	if s.Zone == nil {
		return time.UTC
	}
	return s.Zone
}

// Message is one mail to one recipient.
type Message struct {
	Key     string // names what is told; with To it names the delivery
	To      string
	Subject string
	Text    string
	HTML    string
}

// Delivery names the message for ever: 32 hex digits that the same event and recipient always have. It becomes the message's
// id, by which a copy that is sent again is known.
func (m Message) Delivery() string {
	sum := sha256.Sum256([]byte("holdfast message 1\n" + m.Key + "\n" + strings.ToLower(m.To)))
	return hex.EncodeToString(sum[:16])
}

// Test makes the message that shows that mail arrives. It is sent although mail is turned off: it is how one finds out before
// turning it on. The key is the caller's, since each test is another one.
func Test(s Settings, key, to string, now time.Time) (Message, error) {
	if s.Mail == nil {
		return Message{}, holdfast.Errorf(holdfast.KindInvalid, "no mail is set up").WithHint("give the installation a mail section").WithField("mail")
	}
	p := page{
		tone: toneNeutral, label: "Test", title: "Mail from Holdfast arrives",
		lead: "Somebody asked Holdfast to send this message. Nothing happened, and there is nothing to do.",
		facts: []fact{
			{"Sent", stamp(now, s.zone())}, {"Server", s.Mail.Server}, {"Encryption", encryption(s.Mail.TLS)}, {"From", s.Mail.From}, {"To", to},
		},
	}
	all, err := s.compose("test/"+key, "Test message from Holdfast", p, []string{to})
	if err != nil {
		return Message{}, err
	}
	return all[0], nil
}

func encryption(way holdfast.MailTLS) string {
	switch way {
	case holdfast.MailTLSStart:
		return "STARTTLS"
	case holdfast.MailTLSFirst:
		return "TLS"
	case holdfast.MailTLSNone:
	}
	return "none"
}

// compose makes a copy of a page for each recipient.
func (s Settings) compose(key, subject string, p page, recipients []string) ([]Message, error) {
	if len(recipients) == 0 {
		return nil, nil
	}
	p.zone = s.zone().String()
	text := p.text()
	html, err := p.html()
	if err != nil {
		return nil, err
	}
	messages := make([]Message, 0, len(recipients))
	for _, to := range recipients {
		messages = append(messages, Message{Key: key, To: to, Subject: subject, Text: text, HTML: html})
	}
	return messages, nil
}

// once returns the addresses of lists in their order, each one once without regard to case.
func once(lists ...[]string) []string {
	var all []string
	for _, address := range slices.Concat(lists...) {
		if !has(all, address) {
			all = append(all, address)
		}
	}
	return all
}

func has(addresses []string, address string) bool {
	return slices.ContainsFunc(addresses, func(other string) bool { return strings.EqualFold(other, address) })
}

// recipients returns who hears of something that a policy and the installation both decide on. The policy's word counts for an
// address that stands in both.
func (s Settings) recipients(n holdfast.PolicyNotification, policySays, installationSays bool) []string {
	if s.Mail == nil || !s.Mail.Enabled || !n.Enabled {
		return nil
	}
	var all []string
	if policySays {
		all = n.Recipients
	}
	if installationSays {
		for _, address := range s.Mail.Recipients {
			if !has(n.Recipients, address) {
				all = append(slices.Clone(all), address)
			}
		}
	}
	return once(all)
}

// DailyReportAfter returns when the next daily report is due after an instant, and false when there is none. No day is
// left out where clocks change.
func (s Settings) DailyReportAfter(t time.Time) (time.Time, bool) {
	if s.Mail == nil || !s.Mail.Enabled || s.Mail.DailyReportAt == nil {
		return time.Time{}, false
	}
	date := civil.DateOf(t, s.zone()).AddDays(-1)
	for {
		if due := civil.At(date, *s.Mail.DailyReportAt, s.zone()); due.After(t) {
			return due, true
		}
		date = date.AddDays(1)
	}
}

// ReportAt returns when an SLA report goes out whose entry closed: at once, or at the policy's time on the day after the
// window closed in all regions.
func (s Settings) ReportAt(n holdfast.PolicyNotification, closed time.Time) time.Time {
	if n.At == nil {
		return closed
	}
	return civil.At(civil.DateOf(closed, s.zone()).AddDays(1), *n.At, s.zone())
}
