package blobsvc

import (
	"encoding/base64"
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	xmlBytesMax           = 32 << 20 // a block list of 50,000 ids of 64 bytes has about 5 MiB
	delegationKeyLifetime = 7 * 24 * time.Hour
)

// userDelegationKey is Get User Delegation Key. Only the bearer of a token, over TLS, gets one.
func (s *Service) userDelegationKey(c *call) error {
	if c.grant.object == "" || c.grant.sas {
		return refuse(http.StatusForbidden, "AuthorizationFailure", "A user delegation key is given to the bearer of a token alone.")
	}
	var asked struct {
		Start            string
		Expiry           string
		DelegatedUserTid string
	}
	if err := decodeXML(c.r.Body, &asked); err != nil {
		return err
	}
	if asked.Start == "" {
		asked.Start = c.now.UTC().Format("2006-01-02T15:04:05Z")
	}
	start, startErr := parseSASTime(asked.Start)
	end, endErr := parseSASTime(asked.Expiry)
	if startErr != nil || endErr != nil || !end.After(start) || !end.After(c.now) || end.Sub(c.now) > delegationKeyLifetime || start.Sub(c.now) > delegationKeyLifetime {
		return refuse(http.StatusBadRequest, "InvalidXmlNodeValue", "Start and expiry must lie in the next seven days.")
	}
	type document struct {
		XMLName                   xml.Name `xml:"UserDelegationKey"`
		SignedOid, SignedTid      string
		SignedStart, SignedExpiry string
		SignedService             string
		SignedVersion             string
		SignedDelegatedUserTid    string `xml:",omitempty"`
		Value                     string
	}
	d := document{
		SignedOid: c.grant.object, SignedTid: c.grant.tenant, SignedService: "b", SignedVersion: c.w.Header().Get("x-ms-version"),
		SignedStart: start.UTC().Format("2006-01-02T15:04:05Z"), SignedExpiry: end.UTC().Format("2006-01-02T15:04:05Z"),
		SignedDelegatedUserTid: asked.DelegatedUserTid,
	}
	s.mu.RLock()
	a := s.accounts[c.account]
	s.mu.RUnlock()
	d.Value = a.delegationKey(d.SignedOid, d.SignedTid, d.SignedStart, d.SignedExpiry, d.SignedService, d.SignedVersion, d.SignedDelegatedUserTid)
	writeXML(c.w, http.StatusOK, d)
	return nil
}

// delegationKey derives the key from everything that a SAS says about it, so that none needs to be kept.
func (a accountRecord) delegationKey(fields ...string) string {
	return base64.StdEncoding.EncodeToString(sign(a.DelegationSecret, strings.Join(fields, "\n")))
}

func decodeXML(body io.Reader, into any) error {
	if err := xml.NewDecoder(io.LimitReader(body, xmlBytesMax)).Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "InvalidXmlDocument", "The request's body is not the XML that was expected.")
	}
	return nil
}
