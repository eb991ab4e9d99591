package access

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// CheckSharedKey verifies "Authorization: SharedKey account:signature" (REST reference, "Authorize with Shared Key").
// The date is not compared with the clock: clients sign with the machine's time, which the twin's need not follow.
func CheckSharedKey(r *http.Request, account, key string) error {
	_, credential, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	name, signature, _ := strings.Cut(credential, ":")
	if name != account {
		return ErrAuthentication
	}
	for _, order := range []func(a, b string) int{strings.Compare, compareWithoutHyphens} {
		if signatureFits(key, stringToSign(r, account, order), signature) {
			return nil
		}
	}
	return ErrAuthentication
}

// compareWithoutHyphens is the second order in which clients sort headers: by word, hyphens counting last (azblob
// v1.8.0, internal/exported). Both are accepted; they differ for few sets of headers.
func compareWithoutHyphens(a, b string) int {
	if order := strings.Compare(strings.ReplaceAll(a, "-", ""), strings.ReplaceAll(b, "-", "")); order != 0 {
		return order
	}
	return strings.Compare(a, b)
}

func stringToSign(r *http.Request, account string, order func(a, b string) int) string {
	length := ""
	if r.ContentLength > 0 {
		length = strconv.FormatInt(r.ContentLength, 10)
	}
	date := r.Header.Get("Date")
	if r.Header.Get("x-ms-date") != "" {
		date = ""
	}
	lines := []string{
		r.Method, r.Header.Get("Content-Encoding"), r.Header.Get("Content-Language"), length, r.Header.Get("Content-MD5"),
		r.Header.Get("Content-Type"), date, r.Header.Get("If-Modified-Since"), r.Header.Get("If-Match"), r.Header.Get("If-None-Match"),
		r.Header.Get("If-Unmodified-Since"), r.Header.Get("Range"),
	}
	lines = append(lines, canonicalHeaders(r.Header, order)...)
	return strings.Join(append(lines, canonicalResource(r, account)), "\n")
}

func canonicalHeaders(header http.Header, order func(a, b string) int) []string {
	var names []string
	for name := range header {
		if lower := strings.ToLower(name); strings.HasPrefix(lower, "x-ms-") {
			names = append(names, lower)
		}
	}
	slices.SortFunc(names, order)
	lines := make([]string, len(names))
	for i, name := range names {
		lines[i] = name + ":" + strings.TrimSpace(strings.Join(header.Values(name), ","))
	}
	return lines
}

func canonicalResource(r *http.Request, account string) string {
	var b strings.Builder
	b.WriteString("/" + account + r.URL.EscapedPath())
	parameters := map[string][]string{}
	for name, values := range r.URL.Query() {
		parameters[strings.ToLower(name)] = values
	}
	names := make([]string, 0, len(parameters))
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		values := slices.Sorted(slices.Values(parameters[name]))
		b.WriteString("\n" + name + ":" + strings.Join(values, ","))
	}
	return b.String()
}

// signatureFits compares in constant time. key and signature are base64.
func signatureFits(key, text, signature string) bool {
	got, err := base64.StdEncoding.DecodeString(signature)
	return err == nil && len(got) > 0 && hmac.Equal(got, sign(key, text))
}

func sign(key, text string) []byte {
	secret, err := base64.StdEncoding.DecodeString(key)
	if err != nil {
		return nil // equal to no signature
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
