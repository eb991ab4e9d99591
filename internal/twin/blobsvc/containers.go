package blobsvc

import (
	"encoding/xml"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// createContainer is Create Container. The REST operation makes containers without version-level immutability; one with
// it comes from the management plane.
func (s *Service) createContainer(c *call) error {
	if !validContainerName(c.container) {
		return refuse(http.StatusBadRequest, "InvalidResourceName", "The container's name is not usable.")
	}
	metadata, err := c.metadata()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, err := s.container(c.target); err == nil {
		return refuse(http.StatusConflict, "ContainerAlreadyExists", "The specified container already exists.")
	}
	record := &containerRecord{Stamp: s.nextStamp(), Metadata: metadata}
	if err := s.saveContainer(c.account, c.container, record); err != nil {
		return err
	}
	c.answerTag(record.etag(), stampTime(record.Stamp))
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// deleteContainer is Delete Container. It is gone at once; the platform takes its time.
func (s *Service) deleteContainer(c *call) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	cont, err := s.changeableContainer(c)
	if err != nil {
		return err
	}
	var files []string
	protected := false
	cont.blobs.Scan(func(_ string, b *blobRecord) bool {
		b.eachFile(func(file string) { files = append(files, file) })
		for _, v := range b.Versions {
			protected = protected || v.protected(c.now)
		}
		return true
	})
	if protected {
		return errImmutable
	}
	if err := s.saveContainer(c.account, c.container, nil); err != nil {
		return err
	}
	for _, file := range files {
		s.content.Remove(file)
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// containerProperties is Get Container Properties and Get Container Metadata.
func (s *Service) containerProperties(c *call) error {
	s.mu.RLock()
	cont, err := s.container(c.target)
	s.mu.RUnlock()
	if err != nil {
		return err
	}
	if err := cont.Lease.ForRead(c.r.Header.Get("x-ms-lease-id"), "Container", c.now); err != nil {
		return err
	}
	header := c.w.Header()
	c.answerTag(cont.etag(), stampTime(cont.Stamp))
	cont.Lease.Show(header, c.now)
	showMetadata(header, cont.Metadata)
	header.Set("x-ms-has-immutability-policy", "false")
	header.Set("x-ms-has-legal-hold", "false")
	header.Set("x-ms-immutable-storage-with-versioning-enabled", formatBool(cont.VersionImmutability))
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// setContainerMetadata is Set Container Metadata.
func (s *Service) setContainerMetadata(c *call) error {
	metadata, err := c.metadata()
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cont, err := s.container(c.target)
	if err != nil {
		return err
	}
	if err := cont.Lease.ForRead(c.r.Header.Get("x-ms-lease-id"), "Container", c.now); err != nil {
		return err
	}
	if err := c.containerConditions(cont); err != nil {
		return err
	}
	next := *cont.containerRecord
	next.Metadata, next.Stamp = metadata, s.nextStamp()
	if err := s.saveContainer(c.account, c.container, &next); err != nil {
		return err
	}
	c.answerTag(next.etag(), stampTime(next.Stamp))
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// changeableContainer returns the container when lease and conditions permit to delete it. s.mu is held.
func (s *Service) changeableContainer(c *call) (*container, error) {
	cont, err := s.container(c.target)
	if err != nil {
		return nil, err
	}
	if err := cont.Lease.ForWrite(c.r.Header.Get("x-ms-lease-id"), "Container", c.now); err != nil {
		return nil, err
	}
	return cont, c.containerConditions(cont)
}

func (c *call) containerConditions(cont *container) error {
	cond, err := c.conditions()
	if err != nil {
		return err
	}
	if match, fresh := cond.hold(cont.etag(), stampTime(cont.Stamp).Truncate(time.Second)); !match || !fresh {
		return errConditionNotMet
	}
	return nil
}

// listContainers is List Containers.
func (s *Service) listContainers(c *call) error {
	type properties struct {
		LastModified  string `xml:"Last-Modified"`
		Etag          string
		LeaseStatus   string
		LeaseState    string
		LeaseDuration string `xml:",omitempty"`
		Immutable     bool   `xml:"ImmutableStorageWithVersioningEnabled"`
	}
	type item struct {
		Name       string
		Properties properties
		Metadata   *metadataXML
	}
	var document struct {
		XMLName    xml.Name `xml:"EnumerationResults"`
		Endpoint   string   `xml:"ServiceEndpoint,attr"`
		Prefix     string   `xml:",omitempty"`
		Marker     string   `xml:",omitempty"`
		MaxResults int      `xml:",omitempty"`
		Containers []item   `xml:"Containers>Container"`
		NextMarker string
	}
	limit, err := c.maxResults()
	if err != nil {
		return err
	}
	document.Endpoint = s.endpoint(c)
	document.Prefix, document.Marker = c.q.Get("prefix"), c.q.Get("marker")
	s.mu.RLock()
	defer s.mu.RUnlock()
	containers := s.accounts[c.account].containers
	for _, name := range slices.Sorted(maps.Keys(containers)) {
		cont := containers[name]
		if !strings.HasPrefix(name, document.Prefix) || name < document.Marker {
			continue
		}
		if len(document.Containers) == limit {
			document.NextMarker = name
			break
		}
		shown := http.Header{}
		cont.Lease.Show(shown, c.now)
		it := item{Name: name, Properties: properties{
			LastModified: httpTime(stampTime(cont.Stamp)), Etag: cont.etag(), LeaseStatus: shown.Get("x-ms-lease-status"),
			LeaseState: shown.Get("x-ms-lease-state"), LeaseDuration: shown.Get("x-ms-lease-duration"), Immutable: cont.VersionImmutability,
		}}
		if strings.Contains(c.q.Get("include"), "metadata") {
			it.Metadata = &metadataXML{cont.Metadata}
		}
		document.Containers = append(document.Containers, it)
	}
	writeXML(c.w, http.StatusOK, document)
	return nil
}

func formatBool(b bool) string {
	if b {
		return "true"
	}
	return "false"
}
