package notify_test

import (
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/notify"
	"github.com/holdfast-backup/holdfast/internal/sla"
)

func recipients(messages []notify.Message) string {
	var all []string
	for _, m := range messages {
		all = append(all, m.To)
	}
	return strings.Join(all, " ")
}

// TestSession_Recipients is the table of who hears of a session. The installation has ops@ and both@, the policy own@ and Both@.
func TestSession_Recipients(t *testing.T) {
	const success, warning, failure, stopped = holdfast.OutcomeSuccess, holdfast.OutcomeWarning, holdfast.OutcomeError, holdfast.OutcomeStopped
	type switches struct{ success, warning, failure bool }
	all, none, failures := switches{true, true, true}, switches{}, switches{failure: true}
	for _, c := range []struct {
		name                  string
		mail, policy          bool
		installation, policys switches
		outcome               holdfast.Outcome
		want                  string
	}{
		{"everybody once, the policy's first", true, true, all, all, success, "own@example.com Both@example.com ops@example.com"},
		{"mail turned off", false, true, all, all, failure, ""},
		{"the policy turned off silences all", true, false, all, all, failure, ""},
		{"failures alone, and it is a success", true, true, failures, failures, success, ""},
		{"failures alone", true, true, failures, failures, failure, "own@example.com Both@example.com ops@example.com"},
		{"the policy's word counts for both@: no", true, true, all, none, warning, "ops@example.com"},
		{"the policy's word counts for both@: yes", true, true, none, all, warning, "own@example.com Both@example.com"},
		{"stopped counts as a warning", true, true, none, switches{warning: true}, stopped, "own@example.com Both@example.com"},
		{"stopped is no failure", true, true, failures, failures, stopped, ""},
		{"not done", true, true, all, all, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := settings(t)
			s.Mail.Enabled, s.Mail.Recipients = c.mail, []string{"ops@example.com", "both@example.com", "OPS@example.com"}
			s.Mail.OnSuccess, s.Mail.OnWarning, s.Mail.OnFailure = c.installation.success, c.installation.warning, c.installation.failure
			n := holdfast.PolicyNotification{
				Enabled: c.policy, Recipients: []string{"own@example.com", "Both@example.com"},
				OnSuccess: c.policys.success, OnWarning: c.policys.warning, OnFailure: c.policys.failure,
			}
			f := failed()
			f.Session.Outcome = c.outcome
			messages, err := notify.Session(s, n, f)
			if got := recipients(messages); err != nil || got != c.want {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
	if messages, err := notify.Session(notify.Settings{}, everything, failed()); err != nil || len(messages) != 0 {
		t.Errorf("without mail: %v, %v", messages, err)
	}
}

// TestSession_OneCopy proves of any two lists that no address gets two copies, in whatever case it is written, and that none is made up.
func TestSession_OneCopy(t *testing.T) {
	addresses := rapid.SliceOfN(rapid.SampledFrom([]string{"a@example.com", "A@example.com", "b@example.com", "B@EXAMPLE.com", "c@example.com"}), 0, 6)
	rapid.Check(t, func(rt *rapid.T) {
		s := settings(t)
		s.Mail.Recipients = addresses.Draw(rt, "installation")
		n := everything
		n.Recipients = addresses.Draw(rt, "policy")
		messages, err := notify.Session(s, n, failed())
		if err != nil {
			rt.Fatal(err)
		}
		seen, deliveries := map[string]bool{}, map[string]bool{}
		for _, m := range messages {
			if seen[strings.ToLower(m.To)] || deliveries[m.Delivery()] || !slices.Contains(append(slices.Clone(s.Mail.Recipients), n.Recipients...), m.To) {
				rt.Errorf("%s twice, or from nowhere: %v", m.To, messages)
			}
			seen[strings.ToLower(m.To)], deliveries[m.Delivery()] = true, true
		}
		for _, to := range append(s.Mail.Recipients, n.Recipients...) {
			if !seen[strings.ToLower(to)] {
				rt.Errorf("%s gets none", to)
			}
		}
	})
}

// TestDelivery_Stable proves that the same event names the same deliveries, and another event others.
func TestDelivery_Stable(t *testing.T) {
	s := settings(t)
	make := func(f notify.Finished) string {
		messages, err := notify.Session(s, everything, f)
		if err != nil || len(messages) != 1 {
			t.Fatal(messages, err)
		}
		return messages[0].Delivery()
	}
	f := failed()
	one := make(f)
	f.Session.Message = "told in other words"
	if make(f) != one || len(one) != 32 {
		t.Errorf("%s, %s", one, make(f))
	}
	f.Session.ID = "0193807c-7e2b-7000-8000-000000000002"
	if make(f) == one {
		t.Error("two sessions have one delivery")
	}
}

// TestReport_OnlyMissed proves that such a policy is silent where all is well, and lists what is not alone.
func TestReport_OnlyMissed(t *testing.T) {
	s, n := settings(t), everything
	n.OnlyMissed = true
	c, machines := report()
	messages, err := notify.Report(s, n, c, machines)
	if err != nil || len(messages) != 1 {
		t.Fatal(messages, err)
	}
	for _, body := range []string{messages[0].Text, messages[0].HTML} {
		if !strings.Contains(body, "db-2") || !strings.Contains(body, "db-old") || strings.Contains(body, "db-1") || !strings.Contains(body, "are listed") {
			t.Error(body)
		}
	}
	met := func(machines ...sla.MachineCompliance) int {
		c := c
		c.Status = sla.MetSLA
		messages, err := notify.Report(s, n, c, machines)
		if err != nil {
			t.Fatal(err)
		}
		return len(messages)
	}
	if met(machines[0], machines[2]) != 0 || met(machines[0], machines[1]) != 1 || met(machines[3]) != 1 {
		t.Error("silent where something was missed, or loud where nothing was")
	}
	if messages, err := notify.Report(s, n, c, nil); err != nil || len(messages) != 1 {
		t.Errorf("a missed target without a machine: %v, %v", messages, err)
	}
	n.Enabled = false
	if messages, err := notify.Report(s, n, c, machines); err != nil || len(messages) != 0 {
		t.Errorf("turned off: %v, %v", messages, err)
	}
}

// TestReport_Periods proves how days, weeks and months are called, and that each has a key of its own.
func TestReport_Periods(t *testing.T) {
	c, machines := report()
	keys := map[string]bool{}
	for flag, want := range map[holdfast.Flag]string{
		holdfast.Daily: "[Daily backup SLA for the period 2026-11-29 is missed]", holdfast.Weekly: "[Weekly backup SLA for the period week of 2026-11-29 is missed]",
		holdfast.Monthly: "[Monthly backup SLA for the period November 2026 is missed]",
	} {
		c.Flag = flag
		messages, err := notify.Report(settings(t), everything, c, machines)
		if err != nil || !strings.HasSuffix(messages[0].Subject, want) {
			t.Errorf("%v, %v", messages, err)
		}
		keys[messages[0].Key] = true
	}
	if len(keys) != 3 {
		t.Errorf("%v", keys)
	}
	c.Status, c.Created = sla.None, nil
	messages, err := notify.Report(settings(t), everything, c, nil)
	if err != nil || !strings.Contains(messages[0].Subject, "is not rated") || !strings.Contains(messages[0].Text, "nothing was met or missed") {
		t.Errorf("%v, %v", messages, err)
	}
}

// TestMissed proves that an alarm is about misses alone, and that its key does not depend on the order in which they come.
func TestMissed(t *testing.T) {
	s := settings(t)
	all := missed()
	met := all[0]
	met.State = sla.Met
	one, err := notify.Missed(s, everything, "Databases", append(missed(), met))
	slices.Reverse(all)
	two, again := notify.Missed(s, everything, "Databases", all)
	if err != nil || again != nil || one[0] != two[0] {
		t.Errorf("%v, %v", one, two)
	}
	less, err := notify.Missed(s, everything, "Databases", all[:2])
	if err != nil || less[0].Key == one[0].Key {
		t.Error("two alarms have one key")
	}
	if none, err := notify.Missed(s, everything, "Databases", []sla.Expectation{met}); err != nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
}

// TestDaily_Window proves that each session stands in one report: what ended at its beginning does, what ended at its end does not.
func TestDaily_Window(t *testing.T) {
	s := settings(t)
	due := time.Date(2026, time.December, 1, 8, 0, 0, 0, time.UTC)
	for ended, want := range map[time.Time]string{
		due.Add(-24*time.Hour - 1): "no session ended", due.Add(-24 * time.Hour): "1 session, all well", due.Add(-1): "1 session, all well", due: "no session ended",
	} {
		p := past()[1]
		p.Session.Ended = ended
		messages, err := notify.Daily(s, due, []notify.Past{p})
		if err != nil || len(messages) != 1 || messages[0].Subject != "Holdfast daily report: "+want {
			t.Errorf("ended at %s: %v, %v", ended, messages, err)
		}
	}
	s.Mail.DailyReportAt = nil
	if messages, err := notify.Daily(s, due, past()); err != nil || len(messages) != 0 {
		t.Errorf("without a report: %v, %v", messages, err)
	}
}

// TestDailyReportAfter proves that there is one report a day, also where clocks change at its time.
func TestDailyReportAfter(t *testing.T) {
	s := settings(t)
	half := holdfast.NewTimeOfDay(2, 30) // is skipped on 28 March 2027, and comes twice on 31 October 2027
	s.Mail.DailyReportAt = &half
	at := time.Date(2026, time.December, 31, 23, 0, 0, 0, time.UTC)
	days := map[string]int{}
	for at.Year() < 2028 {
		next, ok := s.DailyReportAfter(at)
		if !ok || !next.After(at) || next.Sub(at) > 26*time.Hour {
			t.Fatalf("after %s: %s, %t", at, next, ok)
		}
		days[next.In(s.Zone).Format(time.DateOnly)]++
		at = next
	}
	for date, n := range days {
		if n != 1 {
			t.Errorf("%d reports on %s", n, date)
		}
	}
	if len(days) < 365 {
		t.Errorf("%d days", len(days))
	}
	s.Mail.Enabled = false
	if _, ok := s.DailyReportAfter(at); ok {
		t.Error("a report is due while mail is turned off")
	}
}

func TestReportAt(t *testing.T) {
	s, eight := settings(t), holdfast.NewTimeOfDay(8, 0)
	closed := time.Date(2026, time.November, 30, 22, 30, 0, 0, time.UTC) // 23:30 in Brussels
	if at := s.ReportAt(holdfast.PolicyNotification{}, closed); !at.Equal(closed) {
		t.Errorf("at once: %s", at)
	}
	want := time.Date(2026, time.December, 1, 7, 0, 0, 0, time.UTC)
	if at := s.ReportAt(holdfast.PolicyNotification{At: &eight}, closed); !at.Equal(want) {
		t.Errorf("on the day after: %s", at)
	}
	if at := s.ReportAt(holdfast.PolicyNotification{At: &eight}, closed.Add(time.Hour)); !at.Equal(want.AddDate(0, 0, 1)) {
		t.Errorf("closed after midnight in Brussels: %s", at)
	}
}

func TestTest(t *testing.T) {
	s := settings(t)
	s.Mail.Enabled = false
	if m, err := notify.Test(s, "1", "a@example.com", night); err != nil || m.To != "a@example.com" {
		t.Errorf("while mail is turned off: %v, %v", m, err)
	}
	if _, err := notify.Test(notify.Settings{}, "1", "a@example.com", night); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("without mail: %v", err)
	}
}

func TestSettingsOf(t *testing.T) {
	if s, err := notify.SettingsOf(holdfast.Installation{Zone: "Asia/Tokyo"}); err != nil || s.Zone.String() != "Asia/Tokyo" {
		t.Errorf("%v, %v", s, err)
	}
	if _, err := notify.SettingsOf(holdfast.Installation{Zone: "Mars"}); !holdfast.IsKind(err, holdfast.KindInvalid) {
		t.Errorf("%v", err)
	}
}

// TestHostile proves that names and messages of guests and clouds are neither header, nor markup, nor control characters.
func TestHostile(t *testing.T) {
	const evil = "x\r\nBcc: all@example.com\r\n\r\n<script>alert(1)</script>\x1b[31m\u202e<img src=https://evil.example/p.png>"
	f := failed()
	f.Session.Policy, f.Session.Message, f.Session.By, f.Session.Manual = evil, evil, evil, true
	f.Items[0].VM, f.Items[0].Message, f.Items[0].Hint, f.Items[0].Region = vm(evil), evil, evil, evil
	messages, err := notify.Session(settings(t), everything, f)
	if err != nil {
		t.Fatal(err)
	}
	m := messages[0]
	if strings.ContainsAny(m.Subject+m.HTML, "\r\x1b\u202e") || strings.ContainsAny(m.Text, "\r\x1b\u202e") || strings.Contains(m.Subject, "\n") {
		t.Errorf("control characters: %q", m.Subject)
	}
	if strings.Contains(m.HTML, "<script") || strings.Contains(m.HTML, "<img") || strings.Contains(m.Text, "\nBcc:") {
		t.Error("markup or a header came through")
	}
}

// TestBodies_SayTheSame proves that every word of the text stands in the HTML and the other way round, and that nothing is loaded from anywhere.
func TestBodies_SayTheSame(t *testing.T) {
	c, machines := report()
	var all []notify.Message
	for _, make := range []func() ([]notify.Message, error){
		func() ([]notify.Message, error) { return notify.Session(settings(t), everything, failed()) },
		func() ([]notify.Message, error) { return notify.Report(settings(t), everything, c, machines) },
		func() ([]notify.Message, error) { return notify.Missed(settings(t), everything, "Databases", missed()) },
		func() ([]notify.Message, error) {
			return notify.Daily(settings(t), time.Date(2026, time.December, 1, 8, 0, 0, 0, time.UTC), past())
		},
	} {
		messages, err := make()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, messages...)
	}
	for _, m := range all {
		words := wordsOf(regexp.MustCompile(`(?s)<style>.*?</style>|<[^>]*>`).ReplaceAllString(m.HTML, " "))
		text := wordsOf(m.Text)
		for word := range text {
			if !words[word] {
				t.Errorf("%s: %q stands in the text alone", m.Subject, word)
			}
		}
		for word := range words {
			if !text[word] {
				t.Errorf("%s: %q stands in the HTML alone", m.Subject, word)
			}
		}
		if found := regexp.MustCompile(`(?i)https?:|url\(|<img|<link|<script|@import|src=`).FindString(m.HTML); found != "" {
			t.Errorf("%s: the HTML loads something: %s", m.Subject, found)
		}
	}
}

func wordsOf(text string) map[string]bool {
	words := map[string]bool{}
	for _, word := range regexp.MustCompile(`[\pL\pN.:+%-]+`).FindAllString(strings.ToLower(html.UnescapeString(text)), -1) {
		if word = strings.Trim(word, ".:-"); word != "" && word != "holdfast" && word != "machine" && word != "policy" && word != "session" {
			words[word] = true
		}
	}
	return words
}

// TestMany proves that a message stays one that can be read, says what it leaves out, and leaves out what is well.
func TestMany(t *testing.T) {
	f := failed()
	bad := f.Items[3]
	f.Items = nil
	for i := range 700 {
		item := failed().Items[0]
		item.VM = vm(fmt.Sprintf("web-%03d", i))
		f.Items = append(f.Items, item)
	}
	f.Items = append(f.Items, bad)
	f.Session.Items = holdfast.ItemCounts{Total: 701, Success: 700, Error: 1}
	messages, err := notify.Session(settings(t), everything, f)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range []string{messages[0].Text, messages[0].HTML} {
		if !strings.Contains(body, "201 more are not listed.") || !strings.Contains(body, "db-1") || len(body) > 1<<20 {
			t.Errorf("%d bytes", len(body))
		}
	}
}

// BenchmarkSession is the largest message.
func BenchmarkSession(b *testing.B) {
	f := failed()
	for len(f.Items) < 500 {
		f.Items = append(f.Items, f.Items[0])
	}
	s := settings(b)
	for b.Loop() {
		if _, err := notify.Session(s, everything, f); err != nil {
			b.Fatal(err)
		}
	}
}

// TestPosts proves that a webhook is told of what it asks for alone, that a post does not change from one time to the next, and that deliveries differ.
func TestPosts(t *testing.T) {
	hooks := []holdfast.Webhook{
		{URL: "https://a.example.com/", Events: holdfast.WebhookEvents()}, {URL: "https://b.example.com/", Events: holdfast.WebhookEvents()}, {URL: "https://c.example.com/", Events: []holdfast.WebhookEvent{holdfast.EventSlotsMissed}},
	}
	c, machines := report()
	deliveries := map[string]bool{}
	for want, make := range map[string]func() ([]notify.Post, error){
		"2 sessionEnded": func() ([]notify.Post, error) { return notify.SessionPosts(hooks, failed()) },
		"2 slaReported":  func() ([]notify.Post, error) { return notify.ReportPosts(hooks, c, machines) },
		"3 slotsMissed":  func() ([]notify.Post, error) { return notify.MissedPosts(hooks, "Databases", missed()) },
	} {
		posts, err := make()
		again, _ := make()
		if err != nil || fmt.Sprint(len(posts), " ", posts[0].Event) != want || string(posts[0].Body) != string(again[0].Body) || posts[0].Delivery() != again[0].Delivery() {
			t.Errorf("%s: %d posts, %v", want, len(posts), err)
		}
		for _, p := range posts {
			deliveries[p.Delivery()] = true
		}
	}
	if len(deliveries) != 7 {
		t.Errorf("%d deliveries", len(deliveries))
	}
	if none, err := notify.MissedPosts(hooks, "Databases", nil); err != nil || len(none) != 0 {
		t.Errorf("%v, %v", none, err)
	}
	if p, err := notify.TestPost(hooks[2], "1", night); err != nil || p.Event != "test" || string(p.Body) != `{"version":1,"event":"test","at":"2026-11-30T21:00:00Z"}` {
		t.Errorf("%s, %v", p.Body, err)
	}
}
