package holdfast_test

import (
	"testing"

	"github.com/holdfast-backup/holdfast"
)

func TestCheckWebhookURL(t *testing.T) {
	for address, accepted := range map[string]bool{
		"https://hooks.example.com/holdfast?team=a": true, "https://192.0.2.1:8443/": true, "http://localhost:8080/a": true, "http://127.0.0.9/": true, "http://[::1]:80/": true,
		"http://hooks.example.com/": false, "http://localhost.example.com/": false, "http://192.0.2.1/": false, "ftp://hooks.example.com/": false, "hooks.example.com/a": false, "": false,
		"https://": false, "https:///a": false, "https://:443/": false, "https://user@hooks.example.com/": false, "https://hooks.example.com/#a": false, "https:hooks.example.com": false, "https://a b/": false,
	} {
		if err := holdfast.CheckWebhookURL(address); (err == nil) != accepted || err != nil && !holdfast.IsKind(err, holdfast.KindInvalid) {
			t.Errorf("%q: %v", address, err)
		}
	}
}

func TestWebhook_Hears(t *testing.T) {
	w := holdfast.Webhook{Events: []holdfast.WebhookEvent{holdfast.EventSlotsMissed}}
	if !w.Hears(holdfast.EventSlotsMissed) || w.Hears(holdfast.EventSessionEnded) {
		t.Error(w)
	}
}
