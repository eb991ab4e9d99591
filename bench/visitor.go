package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/holdfast-backup/holdfast"
	"github.com/holdfast-backup/holdfast/internal/azureconfig"
	"github.com/holdfast-backup/holdfast/internal/clock"
)

const (
	pollEvery    = 50 * time.Millisecond
	visitorCalls = 8       // at the same time, as Holdfast makes them
	visitorBytes = 4 << 20 // a call at the most: what a page blob takes
	computeAPI   = "api-version=2024-03-02"
	diskVersion  = "2023-11-03"
)

// visitor is a client of the twin with nothing but HTTP: what it reaches is what the twin alone can do.
type visitor struct {
	http   *http.Client
	config azureconfig.Config
	token  string
}

func newVisitor(ctx context.Context, place string) (*visitor, error) {
	config, err := azureconfig.Read(filepath.Join(place, "twin", "azure.yaml"))
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(config.CAFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	v := &visitor{config: config, http: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, MaxIdleConnsPerHost: visitorCalls, DisableCompression: true,
	}}}
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {config.ClientID}, "client_secret": {config.ClientSecret.Reveal()},
		"scope": {config.Endpoints.ResourceManager + "/.default"},
	}
	answer, err := v.call(ctx, http.MethodPost, config.Endpoints.ActiveDirectory+"/"+config.TenantID+"/oauth2/v2.0/token",
		strings.NewReader(form.Encode()), http.Header{"Content-Type": {"application/x-www-form-urlencoded"}})
	if err != nil {
		return nil, err
	}
	var token struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(answer.body, &token); err != nil {
		return nil, err
	}
	v.token = token.Token
	return v, nil
}

type reply struct {
	header http.Header
	body   []byte
}

// call makes one request. Anything but 2xx is an error with what was answered.
func (v *visitor) call(ctx context.Context, method, target string, body io.Reader, header http.Header) (reply, error) {
	request, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return reply{}, err
	}
	maps.Copy(request.Header, header)
	answer, err := v.http.Do(request)
	if err != nil {
		return reply{}, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return reply{}, err
	}
	if answer.StatusCode >= http.StatusMultipleChoices {
		return reply{}, fmt.Errorf("%s %s: %s\n%s", method, request.URL.Path, answer.Status, data)
	}
	return reply{answer.Header, data}, nil
}

// manage makes a call of Resource Manager and follows it to its end.
func (v *visitor) manage(ctx context.Context, method, id string, body any) ([]byte, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	header := http.Header{"Authorization": {"Bearer " + v.token}, "Content-Type": {"application/json"}}
	answer, err := v.call(ctx, method, v.config.Endpoints.ResourceManager+id+"?"+computeAPI, bytes.NewReader(data), header)
	if err != nil {
		return nil, err
	}
	follow := answer.header.Get("Azure-AsyncOperation")
	if follow == "" {
		return answer.body, nil
	}
	for {
		answer, err := v.call(ctx, http.MethodGet, follow, nil, header)
		if err != nil {
			return nil, err
		}
		var operation struct {
			Status     string
			Properties struct{ Output json.RawMessage }
		}
		if err := json.Unmarshal(answer.body, &operation); err != nil {
			return nil, err
		}
		switch operation.Status {
		case "Succeeded":
			return operation.Properties.Output, nil
		case "Failed", "Canceled":
			return nil, fmt.Errorf("%s %s: %s", method, id, answer.body)
		}
		if err := (clock.System{}).Sleep(ctx, pollEvery); err != nil {
			return nil, err
		}
	}
}

// grant opens a disk or snapshot for access from outside and returns the URL.
func (v *visitor) grant(ctx context.Context, id, access string) (string, error) {
	output, err := v.manage(ctx, http.MethodPost, id+"/beginGetAccess", map[string]any{"access": access, "durationInSeconds": 3600})
	if err != nil {
		return "", err
	}
	var given struct {
		AccessSAS string `json:"accessSAS"`
	}
	if err := json.Unmarshal(output, &given); err != nil || given.AccessSAS == "" {
		return "", fmt.Errorf("no address was given for %s: %s", id, output)
	}
	return given.AccessSAS, nil
}

// serves returns the seconds that reading all data of the VM's disk takes from a snapshot.
func (v *visitor) serves(ctx context.Context, d disks) (float64, error) {
	id := roadGroup + "/providers/Microsoft.Compute/snapshots/ceiling"
	snapshot := map[string]any{"location": "westeurope", "properties": map[string]any{
		"incremental": true, "creationData": map[string]any{"createOption": "Copy", "sourceResourceId": roadDisk},
	}}
	if _, err := v.manage(ctx, http.MethodPut, id, snapshot); err != nil {
		return 0, err
	}
	address, err := v.grant(ctx, id, "Read")
	if err != nil {
		return 0, err
	}
	return v.each(ctx, d, func(ctx context.Context, r holdfast.Extent, _ []byte) error {
		answer, err := v.call(ctx, http.MethodGet, address, nil, http.Header{
			"X-Ms-Version": {diskVersion}, "X-Ms-Range": {fmt.Sprintf("bytes=%d-%d", r.Offset, r.End()-1)},
		})
		if err == nil && int64(len(answer.body)) != r.Length {
			err = fmt.Errorf("%d bytes came, %d were asked for", len(answer.body), r.Length)
		}
		return err
	})
}

// takes returns the seconds that writing all data of the VM's disk to an upload disk takes.
func (v *visitor) takes(ctx context.Context, o options, d disks) (float64, error) {
	const footerBytes = 512
	id := roadGroup + "/providers/Microsoft.Compute/disks/ceiling"
	disk := map[string]any{"location": "westeurope", "sku": map[string]any{"name": "Premium_LRS"}, "properties": map[string]any{
		"creationData": map[string]any{"createOption": "Upload", "uploadSizeBytes": o.disk + footerBytes},
	}}
	if _, err := v.manage(ctx, http.MethodPut, id, disk); err != nil {
		return 0, err
	}
	address, err := v.grant(ctx, id, "Write")
	if err != nil {
		return 0, err
	}
	return v.each(ctx, d, func(ctx context.Context, r holdfast.Extent, data []byte) error {
		_, err := v.call(ctx, http.MethodPut, address+"&comp=page", bytes.NewReader(data), http.Header{
			"X-Ms-Version": {diskVersion}, "X-Ms-Page-Write": {"update"}, "X-Ms-Range": {fmt.Sprintf("bytes=%d-%d", r.Offset, r.End()-1)},
		})
		return err
	})
}

// each does something with all data of the disk, several calls at a time, and returns the seconds it took.
func (v *visitor) each(ctx context.Context, d disks, do partTask) (float64, error) {
	ranges, err := dataRanges(d.base)
	if err != nil {
		return 0, err
	}
	f, err := os.Open(d.base)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return eachPart(ctx, f, cut(ranges, visitorBytes), visitorCalls, func() partTask { return do })
}
