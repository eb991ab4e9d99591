package blobsvc

import (
	"net/http"
	"strings"
	"time"
)

// metadataBytesMax is the platform's limit for names and values together.
const metadataBytesMax = 8 << 10

// endpoint is the address of the account, in the form in which the request named it.
func (s *Service) endpoint(c *call) string {
	base := s.cfg.BaseURL()
	if !c.byHost {
		return base + "/" + c.account + "/"
	}
	scheme, _, _ := strings.Cut(base, "://")
	return scheme + "://" + c.r.Host + "/"
}

// container returns the container of a target. s.mu is held.
func (s *Service) container(t target) (*container, error) {
	a := s.accounts[t.account]
	if a == nil || a.containers[t.container] == nil {
		return nil, errContainerNotFound
	}
	return a.containers[t.container], nil
}

// blob returns the container and the record of a blob, which is nil when there is none. s.mu is held.
func (s *Service) blob(t target) (*container, *blobRecord, error) {
	cont, err := s.container(t)
	if err != nil {
		return nil, nil, err
	}
	b, _ := cont.blobs.Get(t.blob)
	return cont, b, nil
}

// existing is blob for operations on a current version. s.mu is held.
func (s *Service) existing(c *call) (*container, *blobRecord, error) {
	cont, b, err := s.blob(c.target)
	if err == nil && b.current() == nil {
		err = errBlobNotFound
	}
	return cont, b, err
}

// versionAsked returns the version that a request names, or the current one. s.mu is held.
func (s *Service) versionAsked(c *call) (*blobRecord, *version, bool, error) {
	_, b, err := s.blob(c.target)
	if err != nil {
		return nil, nil, false, err
	}
	v, isCurrent := b.find(c.q.Get("versionid"))
	if v == nil {
		return nil, nil, false, errBlobNotFound
	}
	return b, v, isCurrent, nil
}

// answerTag sets ETag and Last-Modified.
func (c *call) answerTag(etag string, modified time.Time) {
	c.w.Header().Set("ETag", etag)
	c.w.Header().Set("Last-Modified", httpTime(modified))
}

// metadata reads the x-ms-meta- headers. Names are kept in lower case: they are compared without case.
func (c *call) metadata() (map[string]string, error) {
	var metadata map[string]string
	size := 0
	for header, values := range c.r.Header {
		name, found := strings.CutPrefix(strings.ToLower(header), "x-ms-meta-")
		if !found {
			continue
		}
		if !validMetadataName(name) {
			return nil, refuse(http.StatusBadRequest, "InvalidMetadata", "A metadata name must be an identifier.")
		}
		if metadata == nil {
			metadata = map[string]string{}
		}
		metadata[name] = strings.Join(values, ",")
		size += len(name) + len(metadata[name])
	}
	if size > metadataBytesMax {
		return nil, refuse(http.StatusBadRequest, "MetadataTooLarge", "Metadata is larger than 8 KiB.")
	}
	return metadata, nil
}

func validMetadataName(name string) bool {
	for i, c := range name {
		letter := c >= 'a' && c <= 'z' || c == '_'
		if !letter && (c < '0' || c > '9' || i == 0) {
			return false
		}
	}
	return name != ""
}

func showMetadata(header http.Header, metadata map[string]string) {
	for name, value := range metadata {
		header.Set("x-ms-meta-"+name, value)
	}
}

// contentHeaders are the properties of a blob that are shown as headers of the same name, by the header that sets them.
func contentHeaders() map[string]string {
	return map[string]string{
		"x-ms-blob-content-type":        "Content-Type",
		"x-ms-blob-content-encoding":    "Content-Encoding",
		"x-ms-blob-content-language":    "Content-Language",
		"x-ms-blob-content-disposition": "Content-Disposition",
		"x-ms-blob-cache-control":       "Cache-Control",
	}
}

// contentHeaders returns the blob's headers that the request sets; plain says that the headers without prefix count too,
// as they do for Put Blob.
func (c *call) contentHeaders(plain bool) map[string]string {
	headers := map[string]string{}
	for request, name := range contentHeaders() {
		value := c.r.Header.Get(request)
		if value == "" && plain {
			value = c.r.Header.Get(name)
		}
		if value != "" {
			headers[name] = value
		}
	}
	if headers["Content-Type"] == "" {
		headers["Content-Type"] = "application/octet-stream"
	}
	return headers
}
