package blobsvc

import (
	"encoding/xml"
	"io"
	"net/http"
	"time"

	"github.com/holdfast-backup/holdfast/internal/twin/blobsvc/access"
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
	start, startErr := access.ParseTime(asked.Start)
	end, endErr := access.ParseTime(asked.Expiry)
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
	d.Value = a.DelegationKey(d.SignedOid, d.SignedTid, d.SignedStart, d.SignedExpiry, d.SignedService, d.SignedVersion, d.SignedDelegatedUserTid)
	writeXML(c.w, http.StatusOK, d)
	return nil
}

func decodeXML(body io.Reader, into any) error {
	if err := xml.NewDecoder(io.LimitReader(body, xmlBytesMax)).Decode(into); err != nil {
		return refuse(http.StatusBadRequest, "InvalidXmlDocument", "The request's body is not the XML that was expected.")
	}
	return nil
}
